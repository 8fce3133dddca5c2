#include "internal.h"
#include <string.h>

// ---- The peer's certificate ----------------------------------------------------------------------------------------

bool tls_peer_is_verified(const tls_connection *connection) {
    const SSL *ssl = (const SSL *)connection;
    return SSL_get0_peer_certificate(ssl) && SSL_get_verify_result(ssl) == X509_V_OK;
}

/// Copies a text without control characters. A name with NUL in it would be another name for whoever reads C strings.
static long copy_text(const unsigned char *text, long count, char *bytes, size_t capacity) {
    if (count <= 0 || (size_t)count > capacity) return -1;
    for (long i = 0; i < count; i++)
        if (text[i] < 0x20 || text[i] == 0x7F) return -1;
    memcpy(bytes, text, (size_t)count);
    return count;
}

static long copy_string(const ASN1_STRING *string, char *bytes, size_t capacity) {
    unsigned char *text = NULL;
    int count = ASN1_STRING_to_UTF8(&text, string);
    if (count < 0) return -1;
    long result = copy_text(text, count, bytes, capacity);
    OPENSSL_free(text);
    return result;
}

static long copy_subject(X509 *certificate, char *bytes, size_t capacity) {
    BIO *bio = BIO_new(BIO_s_mem());
    if (!bio) return -1;
    long result = -1;
    // Without ESC_MSB the text is UTF-8 and not backslashes.
    unsigned long flags = XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB;
    if (X509_NAME_print_ex(bio, X509_get_subject_name(certificate), 0, flags) >= 0) {
        char *text = NULL;
        long count = BIO_get_mem_data(bio, &text);
        result = copy_text((const unsigned char *)text, count, bytes, capacity);
    }
    BIO_free(bio);
    return result;
}

// Which of several common names is meant, nobody can say. So none is.
static long copy_common_name(X509 *certificate, char *bytes, size_t capacity) {
    X509_NAME *subject = X509_get_subject_name(certificate);
    int index = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (index < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, index) >= 0) return -1;
    return copy_string(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, index)), bytes, capacity);
}

static long copy_alternative(X509 *certificate, int type, size_t index, char *bytes, size_t capacity) {
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    long result = -1;
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != type || index-- > 0) continue;
        result = copy_string(name->d.ia5, bytes, capacity);
        break;
    }
    GENERAL_NAMES_free(names);
    return result;
}

long tls_peer_name_copy(
    const tls_connection *connection, tls_peer_name kind, size_t index, char *bytes, size_t capacity) {
    X509 *certificate = SSL_get0_peer_certificate((const SSL *)connection);
    if (!certificate) return -1;
    long result = -1;
    switch (kind) {
        case TLS_PEER_COMMON_NAME: result = index == 0 ? copy_common_name(certificate, bytes, capacity) : -1; break;
        case TLS_PEER_SUBJECT: result = index == 0 ? copy_subject(certificate, bytes, capacity) : -1; break;
        case TLS_PEER_DNS_NAME: result = copy_alternative(certificate, GEN_DNS, index, bytes, capacity); break;
        case TLS_PEER_EMAIL: result = copy_alternative(certificate, GEN_EMAIL, index, bytes, capacity); break;
        case TLS_PEER_URI: result = copy_alternative(certificate, GEN_URI, index, bytes, capacity); break;
    }
    ERR_clear_error();
    return result;
}

// ---- The connection ------------------------------------------------------------------------------------------------

const char *tls_server_name(const tls_connection *connection) {
    return SSL_get_servername((const SSL *)connection, TLSEXT_NAMETYPE_host_name);
}

const char *tls_version_name(const tls_connection *connection) { return SSL_get_version((const SSL *)connection); }

const char *tls_cipher_name(const tls_connection *connection) { return SSL_get_cipher((const SSL *)connection); }

bool tls_is_resumed(const tls_connection *connection) { return SSL_session_reused((SSL *)connection); }

size_t tls_protocol_copy(const tls_connection *connection, char *bytes, size_t capacity) {
    const unsigned char *protocol = NULL;
    unsigned int count = 0;
    SSL_get0_alpn_selected((const SSL *)connection, &protocol, &count);
    if (count > capacity) return 0;
    if (count > 0) memcpy(bytes, protocol, count);
    return count;
}

size_t tls_session_copy(const tls_connection *connection, void *bytes, size_t capacity) {
    SSL_SESSION *session = SSL_get1_session((SSL *)connection);
    size_t count = 0;
    if (session && SSL_SESSION_is_resumable(session)) {
        int needed = i2d_SSL_SESSION(session, NULL);
        unsigned char *end = bytes;
        if (needed > 0 && (size_t)needed <= capacity) count = (size_t)i2d_SSL_SESSION(session, &end);
    }
    SSL_SESSION_free(session);
    ERR_clear_error();
    return count;
}

bool tls_session_use(tls_connection *connection, const void *bytes, size_t count) {
    const unsigned char *start = bytes;
    SSL_SESSION *session = d2i_SSL_SESSION(NULL, &start, (long)count);
    bool is_used = session && SSL_set_session((SSL *)connection, session);
    SSL_SESSION_free(session);
    ERR_clear_error();
    return is_used;
}

// ---- Words ---------------------------------------------------------------------------------------------------------

const char *tls_error_text(uint64_t error) {
    const char *text = error ? ERR_reason_error_string((unsigned long)error) : NULL;
    return text ? text : "unknown error";
}

const char *tls_alert_text(int alert) { return SSL_alert_desc_string_long(alert); }

const char *tls_verification_text(int64_t result) { return X509_verify_cert_error_string((long)result); }

static bool is_reason(uint64_t error, int reason) {
    return ERR_GET_LIB((unsigned long)error) == ERR_LIB_SSL && ERR_GET_REASON((unsigned long)error) == reason;
}

bool tls_error_is_plain_http(uint64_t error) {
    return is_reason(error, SSL_R_HTTP_REQUEST) || is_reason(error, SSL_R_HTTPS_PROXY_REQUEST);
}

bool tls_error_is_other_protocol(uint64_t error) {
    return is_reason(error, SSL_R_WRONG_VERSION_NUMBER) || is_reason(error, SSL_R_PACKET_LENGTH_TOO_LONG);
}

const char *tls_library_version(void) { return OpenSSL_version(OPENSSL_VERSION); }

bool tls_has_errors(void) { return ERR_peek_error() != 0; }
