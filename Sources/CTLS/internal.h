// What the files of the shim share.
#ifndef CTLS_INTERNAL_H
#define CTLS_INTERNAL_H

#include "ctls.h"

#if !__has_include(<openssl/ssl.h>)
#error "openssl/ssl.h is missing: install libssl-dev (OpenSSL 3.0 or later); Config/setup does"
#endif

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#if OPENSSL_VERSION_NUMBER < 0x30000000L
#error "OpenSSL 3.0 or later is needed"
#endif

/// A name of a host in lower case, and the certificate that serves it. A wildcard is stored without its "*."
typedef struct {
    char *text;
    size_t context_index;
    bool is_wildcard;
} tls_host;

/// OpenSSL holds one certificate of each kind in an SSL_CTX. So every certificate has an SSL_CTX of its own, and a
/// connection begins with the first and changes to the one that serves the name that the client asks for.
struct tls_context {
    SSL_CTX **contexts;
    size_t context_count;
    size_t certificate_count;
    /// Sorted by `is_wildcard` and `text`.
    tls_host *hosts;
    size_t host_count;
    tls_server_rules rules;
    bool is_server;
    /// The protocol in the form of ALPN: its byte count, then its bytes.
    uint8_t protocol[32];
    size_t protocol_count;
    tls_ticket_keys *keys;
};

void tls_ticket_keys_retain(tls_ticket_keys *keys);
/// For SSL_CTX_set_tlsext_ticket_key_evp_cb.
int tls_ticket_key_use(
    SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int is_encrypting);
/// The index under which an SSL_CTX holds its `tls_context`.
int tls_context_index(void);
/// The SSL_CTX for the name; `contexts[0]` if no certificate has it.
SSL_CTX *tls_context_find(const tls_context *context, const char *name);
/// Adds the names of a certificate. Returns how many were new; -1: no memory. `*has_names`: whether it has any.
long tls_context_add_hosts(tls_context *context, X509 *certificate, size_t context_index, bool *has_names);

#endif
