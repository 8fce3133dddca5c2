#include "internal.h"
#include <string.h>

// ---- The BIO ---------------------------------------------------------------------------------------------------

// A BIO whose bytes are those of the current call. A memory BIO for each direction of each connection would keep its
// largest size for the life of the connection.

static int wire_read(BIO *bio, char *bytes, int capacity) {
    tls_wire *wire = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (capacity <= 0) return 0;
    if (wire->input_count == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t count = wire->input_count < (size_t)capacity ? wire->input_count : (size_t)capacity;
    memcpy(bytes, wire->input, count);
    wire->input += count;
    wire->input_count -= count;
    return (int)count;
}

static int wire_write(BIO *bio, const char *bytes, int count) {
    tls_wire *wire = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (count <= 0) return 0;
    size_t room = wire->output_capacity - wire->output_count;
    if (room == 0) {
        BIO_set_retry_write(bio);
        return -1;
    }
    size_t taken = room < (size_t)count ? room : (size_t)count;
    memcpy(wire->output + wire->output_count, bytes, taken);
    wire->output_count += taken;
    return (int)taken;
}

static long wire_control(BIO *bio, int command, long number, void *pointer) {
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static CRYPTO_ONCE method_once = CRYPTO_ONCE_STATIC_INIT;
static BIO_METHOD *method;

static void make_method(void) {
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "wire");
    if (!method) return;
    BIO_meth_set_read(method, wire_read);
    BIO_meth_set_write(method, wire_write);
    BIO_meth_set_ctrl(method, wire_control);
}

tls_wire *tls_wire_create(const tls_library *library) {
    if (!CRYPTO_THREAD_run_once(&method_once, make_method) || !method) return NULL;
    tls_wire *wire = calloc(1, sizeof *wire);
    if (!wire) return NULL;
    BIO *bio = BIO_new(method);
    if (!bio) {
        ERR_clear_error();
        free(wire);
        return NULL;
    }
    BIO_set_data(bio, wire);
    BIO_set_init(bio, 1);
    wire->bio = bio;
    wire->library = library;
    wire->alert_sent = wire->alert_received = -1;
    return wire;
}

void tls_wire_destroy(tls_wire *wire) {
    BIO_free(wire->bio);
    free(wire);
}

// ---- What happens during a call ------------------------------------------------------------------------------------

// RFC 8446, section 4.1.3: this value instead of random bytes makes a ServerHello a HelloRetryRequest.
static const uint8_t retry_random[32] = {
    0xCF, 0x21, 0xAD, 0x74, 0xE5, 0x9A, 0x61, 0x11, 0xBE, 0x1D, 0x8C, 0x02, 0x1E, 0x65, 0xB8, 0x91,
    0xC2, 0xA2, 0x11, 0x16, 0x7A, 0xBB, 0x8C, 0x5E, 0x07, 0x9E, 0x09, 0xE2, 0xC8, 0xA8, 0x33, 0x9C,
};

static void observe_handshake(tls_wire *wire, bool is_write, const uint8_t *message, size_t count) {
    // Type (1 byte), length (3), and for hellos version (2) and random (32).
    switch (message[0]) {
        case SSL3_MT_SERVER_HELLO:
            if (is_write && count >= 38 && memcmp(message + 6, retry_random, sizeof retry_random) != 0)
                wire->said_hello = true;
            if (!is_write) wire->handshake_step_count++;
            break;
        case SSL3_MT_CLIENT_HELLO:
        case SSL3_MT_CLIENT_KEY_EXCHANGE:
        case SSL3_MT_CERTIFICATE_VERIFY:
            if (!is_write) wire->handshake_step_count++;
            break;
        case SSL3_MT_KEY_UPDATE:
            if (!is_write) wire->key_update_count++;
            break;
    }
}

static void observe(
    int is_write, int version, int content_type, const void *bytes, size_t count, SSL *ssl, void *argument) {
    (void)version, (void)ssl;
    tls_wire *wire = argument;
    const uint8_t *byte = bytes;
    if (content_type == SSL3_RT_HANDSHAKE && count >= 4) {
        observe_handshake(wire, is_write, byte, count);
    } else if (content_type == SSL3_RT_ALERT && count >= 2) {
        if (is_write) wire->alert_sent = byte[1];
        else wire->alert_received = byte[1];
        if (is_write && byte[0] == SSL3_AL_WARNING && byte[1] == SSL_AD_NO_RENEGOTIATION)
            wire->refused_renegotiation = true;
    }
}

// ---- Connections ---------------------------------------------------------------------------------------------------

static SSL *make_connection(tls_context *context, tls_wire *wire) {
    SSL *ssl = SSL_new(context->contexts[0]);
    if (!ssl) {
        ERR_clear_error();
        return NULL;
    }
    // SSL_set_bio takes one reference if both are the same.
    BIO_up_ref(wire->bio);
    SSL_set_bio(ssl, wire->bio, wire->bio);
    SSL_set_msg_callback(ssl, observe);
    SSL_set_msg_callback_arg(ssl, wire);
    return ssl;
}

tls_connection *tls_accept(tls_context *context, tls_wire *wire) {
    SSL *ssl = make_connection(context, wire);
    if (ssl) SSL_set_accept_state(ssl);
    return (tls_connection *)ssl;
}

tls_connection *tls_connect(tls_context *context, tls_wire *wire, const char *name, bool is_address) {
    SSL *ssl = make_connection(context, wire);
    if (!ssl) return NULL;
    SSL_set_connect_state(ssl);
    int is_set = is_address ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name)
                            : SSL_set1_host(ssl, name) && SSL_set_tlsext_host_name(ssl, name);
    if (!is_set) {
        ERR_clear_error();
        SSL_free(ssl);
        return NULL;
    }
    return (tls_connection *)ssl;
}

void tls_connection_free(tls_connection *connection) {
    SSL_free((SSL *)connection);
    ERR_clear_error();
}

// The first error of the queue is the cause. The others say which functions it passed through.
static void keep_error(SSL *ssl, tls_wire *wire) {
    wire->error = ERR_get_error();
    wire->verification = SSL_get_verify_result(ssl);
    ERR_clear_error();
}

tls_outcome tls_read(tls_connection *connection, tls_wire *wire, void *bytes, size_t capacity, size_t *count) {
    SSL *ssl = (SSL *)connection;
    size_t total = 0;
    tls_outcome outcome = TLS_PLAINTEXT_FULL;
    ERR_clear_error();
    while (total < capacity && !wire->refused_renegotiation) {
        size_t read = 0;
        if (SSL_read_ex(ssl, (uint8_t *)bytes + total, capacity - total, &read)) {
            total += read;
            continue;
        }
        switch (SSL_get_error(ssl, 0)) {
            case SSL_ERROR_WANT_READ: outcome = TLS_NEEDS_INPUT; break;
            case SSL_ERROR_WANT_WRITE: outcome = TLS_OUTPUT_FULL; break;
            case SSL_ERROR_ZERO_RETURN: outcome = TLS_ENDED; break;
            default:
                outcome = TLS_FAILED;
                keep_error(ssl, wire);
        }
        break;
    }
    if (wire->refused_renegotiation) outcome = TLS_FAILED;
    *count = total;
    return outcome;
}

bool tls_write(tls_connection *connection, tls_wire *wire, const void *bytes, size_t count) {
    size_t written = 0;
    ERR_clear_error();
    if (SSL_write_ex((SSL *)connection, bytes, count, &written) && written == count) return true;
    keep_error((SSL *)connection, wire);
    return false;
}

tls_outcome tls_write_ticket(tls_connection *connection, tls_wire *wire, bool is_first) {
    SSL *ssl = (SSL *)connection;
    ERR_clear_error();
    if (is_first && !SSL_new_session_ticket(ssl)) {
        ERR_clear_error();
        return TLS_NEEDS_INPUT;
    }
    int result = SSL_do_handshake(ssl);
    if (result == 1) return TLS_NEEDS_INPUT;
    if (SSL_get_error(ssl, result) == SSL_ERROR_WANT_WRITE) return TLS_OUTPUT_FULL;
    keep_error(ssl, wire);
    return TLS_FAILED;
}

void tls_close(tls_connection *connection, tls_wire *wire) {
    (void)wire;
    SSL *ssl = (SSL *)connection;
    if (SSL_is_init_finished(ssl) && !(SSL_get_shutdown(ssl) & SSL_SENT_SHUTDOWN)) SSL_shutdown(ssl);
    ERR_clear_error();
}

bool tls_is_established(const tls_connection *connection) { return SSL_is_init_finished((const SSL *)connection); }

size_t tls_record_limit(const tls_connection *connection) {
    const SSL_SESSION *session = SSL_get_session((const SSL *)connection);
    uint8_t code = session ? SSL_SESSION_get_max_fragment_length(session) : TLSEXT_max_fragment_length_DISABLED;
    // 1 ... 4: 2^9 ... 2^12 bytes.
    return code == TLSEXT_max_fragment_length_DISABLED ? tls_record_byte_count_max : (size_t)256 << code;
}

bool tls_request_key_update(tls_connection *connection) {
    bool is_requested = SSL_key_update((SSL *)connection, SSL_KEY_UPDATE_REQUESTED);
    ERR_clear_error();
    return is_requested;
}

bool tls_flush_handshake(tls_connection *connection) {
    bool is_flushed = SSL_do_handshake((SSL *)connection) == 1;
    ERR_clear_error();
    return is_flushed;
}

bool tls_request_renegotiation(tls_connection *connection) {
    SSL *ssl = (SSL *)connection;
    SSL_clear_options(ssl, SSL_OP_NO_RENEGOTIATION);
    bool is_requested = SSL_renegotiate(ssl) && SSL_do_handshake(ssl) != 0;
    ERR_clear_error();
    return is_requested;
}

bool tls_request_short_records(tls_connection *connection) {
    return SSL_set_tlsext_max_fragment_length((SSL *)connection, TLSEXT_max_fragment_length_512);
}

static const tls_library openssl = {
    .accept = tls_accept,
    .free = tls_connection_free,
    .read = tls_read,
    .write = tls_write,
    .write_ticket = tls_write_ticket,
    .close = tls_close,
    .is_established = tls_is_established,
    .is_resumed = tls_is_resumed,
    .record_limit = tls_record_limit,
};

const tls_library *tls_library_openssl(void) { return &openssl; }
