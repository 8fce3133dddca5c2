#include "internal.h"
#include <string.h>
#include <time.h>

// ---- Rules that all contexts share -----------------------------------------------------------------------------

// Only ciphers that authenticate with their own tag and keys that are forgotten after the handshake.
static const char *const ciphers_tls12 = "ECDHE+AESGCM:ECDHE+CHACHA20";
static const char *const groups = "X25519:P-256:P-384";
// The most bytes of a chain that a client may send before anybody knows it. OpenSSL's default is 100 KiB.
static const long chain_byte_count_max = 32768;
static const int chain_depth_max = 8;
// TLS 1.3 sends tickets after the handshake. `tls_write_ticket` does it, later than OpenSSL would.
static const size_t ticket_count = 0;
static const long session_seconds_max = 3600;

static CRYPTO_ONCE index_once = CRYPTO_ONCE_STATIC_INIT;
static int context_index = -1;
static int owner_index = -1;

static void destroy(tls_context *context) {
    for (size_t i = 1; i < context->context_count; i++) SSL_CTX_free(context->contexts[i]);
    for (size_t i = 0; i < context->host_count; i++) free(context->hosts[i].text);
    if (context->keys) tls_ticket_keys_release(context->keys);
    free(context->hosts);
    free(context->contexts);
    free(context);
}

// Connections hold the first SSL_CTX, and so everything that belongs to the context.
static void free_owner(void *parent, void *pointer, CRYPTO_EX_DATA *data, int index, long number, void *argument) {
    (void)parent, (void)data, (void)index, (void)number, (void)argument;
    if (pointer) destroy(pointer);
}

static void make_indices(void) {
    context_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    owner_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_owner);
}

int tls_context_index(void) { return context_index; }

static int choose_certificate(SSL *ssl, int *alert, void *argument) {
    const tls_context *context = argument;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    if (!name) return SSL_TLSEXT_ERR_NOACK;
    SSL_CTX *found = tls_context_find(context, name);
    if (found == SSL_get_SSL_CTX(ssl) || SSL_set_SSL_CTX(ssl, found)) return SSL_TLSEXT_ERR_OK;
    *alert = SSL_AD_INTERNAL_ERROR;
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

// RFC 7301, section 3.2: a client that offers only other protocols is refused. That also stops a browser that was sent
// to the wrong port from talking on.
static int choose_protocol(
    SSL *ssl, const unsigned char **chosen, unsigned char *chosen_count, const unsigned char *offered,
    unsigned int offered_count, void *argument) {
    (void)ssl;
    const tls_context *context = argument;
    for (unsigned int i = 0; i < offered_count && i + 1 + offered[i] <= offered_count; i += 1 + offered[i]) {
        if (offered[i] + 1u != context->protocol_count) continue;
        if (memcmp(offered + i, context->protocol, context->protocol_count) != 0) continue;
        *chosen = offered + i + 1;
        *chosen_count = offered[i];
        return SSL_TLSEXT_ERR_OK;
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

// A ticket holds the client's certificate as it was verified. It must not outlive it.
static SSL_TICKET_RETURN judge_ticket(
    SSL *ssl, SSL_SESSION *session, const unsigned char *name, size_t name_count, SSL_TICKET_STATUS status,
    void *argument) {
    (void)ssl, (void)name, (void)name_count, (void)argument;
    if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW) return SSL_TICKET_RETURN_IGNORE_RENEW;
    X509 *peer = session ? SSL_SESSION_get0_peer(session) : NULL;
    if (peer && X509_cmp_current_time(X509_get0_notAfter(peer)) <= 0) return SSL_TICKET_RETURN_IGNORE_RENEW;
    return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW;
}

static bool configure(SSL_CTX *ctx, bool requires_tls13) {
    SSL_CTX_set_options(
        ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                 SSL_OP_PRIORITIZE_CHACHA);
    // Without NO_AUTO_CHAIN, a certificate without intermediates is verified again in each handshake.
    SSL_CTX_set_mode(
        ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                 SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_timeout(ctx, session_seconds_max);
    SSL_CTX_set_max_cert_list(ctx, chain_byte_count_max);
    SSL_CTX_set_verify_depth(ctx, chain_depth_max);
    return SSL_CTX_set_min_proto_version(ctx, requires_tls13 ? TLS1_3_VERSION : TLS1_2_VERSION) &&
           SSL_CTX_set_cipher_list(ctx, ciphers_tls12) && SSL_CTX_set1_groups_list(ctx, groups);
}

static bool configure_server(SSL_CTX *ctx, tls_context *context) {
    static const int verify_modes[] = {
        [TLS_CLIENTS_NONE] = SSL_VERIFY_NONE,
        [TLS_CLIENTS_OPTIONAL] = SSL_VERIFY_PEER,
        [TLS_CLIENTS_REQUIRED] = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
    };
    SSL_CTX_set_verify(ctx, verify_modes[context->rules.clients], NULL);
    SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, context);
    SSL_CTX_set_tlsext_servername_callback(ctx, choose_certificate);
    SSL_CTX_set_tlsext_servername_arg(ctx, context);
    return SSL_CTX_set_num_tickets(ctx, ticket_count) &&
           SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, tls_ticket_key_use) &&
           SSL_CTX_set_session_ticket_cb(ctx, NULL, judge_ticket, NULL);
}

// ---- Making contexts -----------------------------------------------------------------------------------------------

/// Adds an SSL_CTX with the rules of the context and without a certificate. NULL: no memory, or OpenSSL refuses a rule.
static SSL_CTX *add_context(tls_context *context) {
    SSL_CTX **contexts = realloc(context->contexts, (context->context_count + 1) * sizeof *contexts);
    if (!contexts) return NULL;
    context->contexts = contexts;
    SSL_CTX *ctx = SSL_CTX_new(context->is_server ? TLS_server_method() : TLS_client_method());
    if (!ctx) return NULL;
    bool is_ready = configure(ctx, context->rules.requires_tls13) && SSL_CTX_set_ex_data(ctx, context_index, context) &&
                    (!context->is_server || configure_server(ctx, context));
    if (!is_ready) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    contexts[context->context_count++] = ctx;
    // All trust the same issuers. The store has a lock of its own.
    if (context->context_count > 1) SSL_CTX_set1_cert_store(ctx, SSL_CTX_get_cert_store(contexts[0]));
    return ctx;
}

static tls_context *create(bool is_server, const tls_server_rules *rules, tls_ticket_keys *keys) {
    size_t protocol_count = strlen(rules->protocol);
    tls_context *context = calloc(1, sizeof *context);
    if (!context || protocol_count + 1 > sizeof context->protocol) return free(context), NULL;
    context->is_server = is_server;
    context->rules = *rules;
    context->rules.protocol = NULL;
    context->protocol[0] = (uint8_t)protocol_count;
    memcpy(context->protocol + 1, rules->protocol, protocol_count);
    context->protocol_count = protocol_count + 1;
    if (!CRYPTO_THREAD_run_once(&index_once, make_indices) || context_index < 0 || owner_index < 0 ||
        !add_context(context)) {
        destroy(context);
        ERR_clear_error();
        return NULL;
    }
    if (!SSL_CTX_set_ex_data(context->contexts[0], owner_index, context)) {
        SSL_CTX_free(context->contexts[0]);
        destroy(context);
        ERR_clear_error();
        return NULL;
    }
    if (keys) {
        tls_ticket_keys_retain(keys);
        context->keys = keys;
    }
    ERR_clear_error();
    return context;
}

tls_context *tls_context_create_server(const tls_server_rules *rules, tls_ticket_keys *keys) {
    return create(true, rules, keys);
}

tls_context *tls_context_create_client(bool requires_tls13, const char *protocol) {
    tls_server_rules rules = {.requires_tls13 = requires_tls13, .protocol = protocol};
    tls_context *context = create(false, &rules, NULL);
    if (!context) return NULL;
    SSL_CTX_set_verify(context->contexts[0], SSL_VERIFY_PEER, NULL);
    // Unlike its neighbours, this function returns 0 if it succeeds.
    if (SSL_CTX_set_alpn_protos(context->contexts[0], context->protocol, (unsigned)context->protocol_count) != 0) {
        tls_context_release(context);
        context = NULL;
    }
    ERR_clear_error();
    return context;
}

void tls_context_trust_anyone(tls_context *context) {
    SSL_CTX_set_verify(context->contexts[0], SSL_VERIFY_NONE, NULL);
}

void tls_context_release(tls_context *context) {
    SSL_CTX_free(context->contexts[0]);
    ERR_clear_error();
}

bool tls_context_set_scope(tls_context *context, const void *scope, size_t count) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int digest_count = 0;
    bool is_set = EVP_Digest(scope, count, digest, &digest_count, EVP_sha256(), NULL);
    for (size_t i = 0; is_set && i < context->context_count; i++)
        is_set = SSL_CTX_set_session_id_context(context->contexts[i], digest, digest_count);
    ERR_clear_error();
    return is_set;
}

// ---- Files ---------------------------------------------------------------------------------------------------------

static void keep_reason(tls_certificate_facts *facts) {
    unsigned long error = ERR_peek_last_error();
    const char *text = error ? ERR_reason_error_string(error) : NULL;
    if (text) strncpy(facts->reason, text, sizeof facts->reason - 1);
}

static bool is_end_of_text(void) {
    unsigned long error = ERR_peek_last_error();
    return ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
}

// Without a function of its own, OpenSSL asks for the passphrase at the terminal.
static int refuse_passphrase(char *bytes, int capacity, int is_writing, void *was_asked) {
    (void)bytes, (void)capacity, (void)is_writing;
    *(bool *)was_asked = true;
    return -1;
}

static bool seconds(const ASN1_TIME *time, int64_t *result) {
    struct tm parts;
    if (!ASN1_TIME_to_tm(time, &parts)) return false;
    *result = timegm(&parts);
    return true;
}

static bool has_key_block(const char *text, size_t count) {
    static const char mark[] = "PRIVATE KEY-----";
    size_t mark_count = sizeof mark - 1;
    for (size_t i = 0; i + mark_count <= count; i++)
        if (memcmp(text + i, mark, mark_count) == 0) return true;
    return false;
}

static tls_file_result read_key(const void *text, size_t count, EVP_PKEY **key, tls_certificate_facts *facts) {
    BIO *bio = BIO_new_mem_buf(text, (int)count);
    if (!bio) return TLS_FILE_NO_MEMORY;
    bool was_asked = false;
    *key = PEM_read_bio_PrivateKey(bio, NULL, refuse_passphrase, &was_asked);
    BIO_free(bio);
    if (*key) return TLS_FILE_OK;
    if (was_asked) return TLS_FILE_KEY_ENCRYPTED;
    // The decoders of OpenSSL 3 do not tell "no key" from "a key that nobody can read".
    if (!has_key_block(text, count)) return TLS_FILE_NO_KEY;
    keep_reason(facts);
    return TLS_FILE_BAD_KEY;
}

/// Gives the chain to the SSL_CTX: the first certificate of the text is the leaf.
static tls_file_result use_chain(SSL_CTX *ctx, BIO *bio, X509 **leaf, tls_certificate_facts *facts) {
    *leaf = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    if (!*leaf) {
        if (is_end_of_text()) return TLS_FILE_NO_CERTIFICATE;
        keep_reason(facts);
        return TLS_FILE_BAD_CERTIFICATE;
    }
    if (!SSL_CTX_use_certificate(ctx, *leaf) || !seconds(X509_get0_notBefore(*leaf), &facts->not_before) ||
        !seconds(X509_get0_notAfter(*leaf), &facts->not_after)) {
        keep_reason(facts);
        return TLS_FILE_BAD_CERTIFICATE;
    }
    X509 *issuer;
    while ((issuer = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
        if (SSL_CTX_add0_chain_cert(ctx, issuer)) continue;
        X509_free(issuer);
        keep_reason(facts);
        return TLS_FILE_BAD_CERTIFICATE;
    }
    if (is_end_of_text()) return TLS_FILE_OK;
    keep_reason(facts);
    return TLS_FILE_BAD_CERTIFICATE;
}

static tls_file_result use_key(SSL_CTX *ctx, X509 *leaf, EVP_PKEY *key, tls_certificate_facts *facts) {
    if (!X509_check_private_key(leaf, key)) return TLS_FILE_KEY_MISMATCH;
    if (SSL_CTX_use_PrivateKey(ctx, key)) return TLS_FILE_OK;
    keep_reason(facts);
    return TLS_FILE_BAD_KEY;
}

static tls_file_result add_names(tls_context *context, X509 *leaf, tls_certificate_facts *facts) {
    bool has_names = false;
    long count = tls_context_add_hosts(context, leaf, context->context_count - 1, &has_names);
    if (count < 0) return TLS_FILE_NO_MEMORY;
    facts->name_count = (size_t)count;
    if (count > 0 || context->context_count == 1) return TLS_FILE_OK;
    return has_names ? TLS_FILE_NAMES_TAKEN : TLS_FILE_NO_NAMES;
}

tls_file_result tls_context_add_certificate(
    tls_context *context, const void *chain, size_t chain_count, const void *key, size_t key_count,
    tls_certificate_facts *facts) {
    memset(facts, 0, sizeof *facts);
    ERR_clear_error();
    SSL_CTX *ctx = context->certificate_count == 0 ? context->contexts[0] : add_context(context);
    BIO *bio = BIO_new_mem_buf(chain, (int)chain_count);
    X509 *leaf = NULL;
    EVP_PKEY *private_key = NULL;
    tls_file_result result = ctx && bio ? TLS_FILE_OK : TLS_FILE_NO_MEMORY;
    if (result == TLS_FILE_OK) result = use_chain(ctx, bio, &leaf, facts);
    if (result == TLS_FILE_OK) result = read_key(key, key_count, &private_key, facts);
    if (result == TLS_FILE_OK) result = use_key(ctx, leaf, private_key, facts);
    if (result == TLS_FILE_OK && context->is_server) result = add_names(context, leaf, facts);
    if (result == TLS_FILE_OK) context->certificate_count++;
    BIO_free(bio);
    X509_free(leaf);
    EVP_PKEY_free(private_key);
    ERR_clear_error();
    return result;
}

/// Names the issuer in the list that clients see, so that they can choose among their certificates.
static bool announce(tls_context *context, X509 *authority) {
    for (size_t i = 0; context->is_server && i < context->context_count; i++)
        if (!SSL_CTX_add_client_CA(context->contexts[i], authority)) return false;
    return true;
}

tls_file_result tls_context_add_authorities(
    tls_context *context, const void *authorities, size_t count, tls_certificate_facts *facts) {
    memset(facts, 0, sizeof *facts);
    ERR_clear_error();
    BIO *bio = BIO_new_mem_buf(authorities, (int)count);
    if (!bio) return TLS_FILE_NO_MEMORY;
    X509_STORE *store = SSL_CTX_get_cert_store(context->contexts[0]);
    tls_file_result result = TLS_FILE_NO_CERTIFICATE;
    X509 *authority;
    while ((authority = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
        bool is_added = X509_STORE_add_cert(store, authority) && announce(context, authority);
        int64_t not_after = 0;
        seconds(X509_get0_notAfter(authority), &not_after);
        // The first that expires is the one to be warned of.
        if (result != TLS_FILE_OK || not_after < facts->not_after) facts->not_after = not_after;
        X509_free(authority);
        result = is_added ? TLS_FILE_OK : TLS_FILE_BAD_CERTIFICATE;
        if (!is_added) break;
    }
    if (result == TLS_FILE_BAD_CERTIFICATE || !is_end_of_text()) {
        keep_reason(facts);
        result = TLS_FILE_BAD_CERTIFICATE;
    }
    BIO_free(bio);
    ERR_clear_error();
    return result;
}

bool tls_context_trust_system(tls_context *context) {
    bool is_set = SSL_CTX_set_default_verify_paths(context->contexts[0]);
    ERR_clear_error();
    return is_set;
}

bool tls_context_set_suites(tls_context *context, const char *suites) {
    bool is_set = true;
    for (size_t i = 0; is_set && i < context->context_count; i++)
        is_set = SSL_CTX_set_ciphersuites(context->contexts[i], suites);
    ERR_clear_error();
    return is_set;
}

bool tls_context_limit_to_tls12(tls_context *context) {
    bool is_limited = SSL_CTX_set_max_proto_version(context->contexts[0], TLS1_2_VERSION);
    ERR_clear_error();
    return is_limited;
}
