// The C part of TLS: functions over OpenSSL 3 that Swift can call. No other file includes <openssl/...>.
//
// Nothing here makes a system call on a socket. A connection reads its ciphertext from a buffer of the caller and
// writes its ciphertext to another one. Both are described by a `tls_wire`, of which a worker has one for all its
// connections:
//
//     ciphertext in  -> wire.input  -> tls_read  -> plaintext
//     ciphertext out <- wire.output <- tls_write <- plaintext
//
// The queue of errors of the thread is empty whenever a function has returned.
#ifndef CTLS_H
#define CTLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// ---- Wire ----------------------------------------------------------------------------------------------------------

typedef struct tls_library tls_library;

/// The buffers of one call, and what the call did. The caller sets the first five fields before each call. The counts
/// and alerts are those since the caller last cleared them.
typedef struct tls_wire {
    /// Ciphertext of the peer that was not taken yet. Taking bytes moves the pointer and lowers the count.
    const uint8_t *input;
    size_t input_count;
    /// Room for ciphertext to the peer. Writing raises the count, up to the capacity.
    uint8_t *output;
    size_t output_capacity;
    size_t output_count;

    /// Steps of handshakes that take the processor long: hellos, key exchanges and proofs of possession.
    uint32_t handshake_step_count;
    uint32_t key_update_count;
    /// Descriptions of fatal or warning alerts (RFC 8446, section 6); -1: none.
    int16_t alert_sent;
    int16_t alert_received;
    /// The server has answered the client's hello with its own (not with a request to try again).
    bool said_hello;
    /// The peer asked for a renegotiation and was refused.
    bool refused_renegotiation;
    /// The first error of the queue after a failure: its code, and the result of the verification of the peer's chain.
    uint64_t error;
    int64_t verification;

    /// The BIO that all connections of the wire share.
    void *bio;
    /// What encrypts for the connections of the wire.
    const tls_library *library;
} tls_wire;

/// NULL: no memory. The wire must outlive its connections, and `library` the wire.
tls_wire *tls_wire_create(const tls_library *library);
void tls_wire_destroy(tls_wire *wire);

// ---- Contexts ------------------------------------------------------------------------------------------------------

/// Certificates and rules, shared by all threads. Connections keep the context that they were made with alive.
typedef struct tls_context tls_context;
/// The keys that encrypt session tickets. Shared by contexts, so that tickets stay valid when a context is replaced.
typedef struct tls_ticket_keys tls_ticket_keys;

typedef enum {
    TLS_CLIENTS_NONE,
    TLS_CLIENTS_OPTIONAL,
    TLS_CLIENTS_REQUIRED,
} tls_client_certificates;

typedef struct tls_server_rules {
    /// Refuse TLS 1.2.
    bool requires_tls13;
    tls_client_certificates clients;
    /// The one protocol of ALPN that is accepted. A client that offers only others is refused.
    const char *protocol;
} tls_server_rules;

/// What went wrong with a file.
typedef enum {
    TLS_FILE_OK,
    TLS_FILE_NO_MEMORY,
    /// No PEM block of the kind that was asked for.
    TLS_FILE_NO_CERTIFICATE,
    TLS_FILE_NO_KEY,
    /// There is a block, but its content is damaged or OpenSSL refuses it (a key that is too short, for example).
    TLS_FILE_BAD_CERTIFICATE,
    TLS_FILE_BAD_KEY,
    TLS_FILE_KEY_ENCRYPTED,
    /// The key belongs to another certificate.
    TLS_FILE_KEY_MISMATCH,
    /// All names of the certificate are served by certificates that were added before.
    TLS_FILE_NAMES_TAKEN,
    /// The certificate names no host, and is not the first one.
    TLS_FILE_NO_NAMES,
} tls_file_result;

typedef struct tls_certificate_facts {
    /// Validity, in seconds since 1970.
    int64_t not_before;
    int64_t not_after;
    /// Names of hosts that the certificate adds to those of the context.
    size_t name_count;
    /// Why OpenSSL refused it, in its own words. Empty: nothing to say.
    char reason[160];
} tls_certificate_facts;

/// A context for servers, without certificates. NULL: no memory, or this OpenSSL refuses the rules. The context keeps
/// `keys` alive.
tls_context *tls_context_create_server(const tls_server_rules *rules, tls_ticket_keys *keys);
/// A context for clients. It trusts nobody yet.
tls_context *tls_context_create_client(bool requires_tls13, const char *protocol);
/// A client's context takes whatever certificate the server shows, or whoever is between.
void tls_context_trust_anyone(tls_context *context);
void tls_context_release(tls_context *context);

/// Adds a chain (the leaf first) and its key, both PEM. The first certificate of a server is the default.
tls_file_result tls_context_add_certificate(
    tls_context *context, const void *chain, size_t chain_count, const void *key, size_t key_count,
    tls_certificate_facts *facts);
/// Trusts the certificates in the PEM text. For a server: as issuers of clients' certificates.
tls_file_result tls_context_add_authorities(
    tls_context *context, const void *authorities, size_t count, tls_certificate_facts *facts);
/// Trusts what the system trusts. For clients.
bool tls_context_trust_system(tls_context *context);
/// Binds session tickets to the rules about clients: a ticket of a context with another scope is not accepted.
bool tls_context_set_scope(tls_context *context, const void *scope, size_t count);
/// Connections of TLS 1.3 use these cipher suites only: names of RFC 8446, separated by colons. False: OpenSSL knows none of
/// that name, and the context stays as it was.
bool tls_context_set_suites(tls_context *context, const char *suites);
/// For tests: connections use TLS 1.2 at most.
bool tls_context_limit_to_tls12(tls_context *context);
/// Whether a certificate serves this name: exactly or by a wildcard. For tests and logs.
bool tls_context_serves(tls_context *context, const char *name);

/// Keys that are renewed when `tls_ticket_keys_renew` says so. NULL: no memory, or no random bytes.
tls_ticket_keys *tls_ticket_keys_create(uint64_t now_seconds, uint64_t period_seconds);
/// Makes a new key if the current one is at least a period old. Tickets of the key before are still accepted, for
/// another period. Thread-safe, and one comparison if there is nothing to do. Returns whether a key was made.
bool tls_ticket_keys_renew(tls_ticket_keys *keys, uint64_t now_seconds);
void tls_ticket_keys_release(tls_ticket_keys *keys);

// ---- Connections ---------------------------------------------------------------------------------------------------

typedef struct tls_connection tls_connection;

typedef enum {
    /// All input is taken.
    TLS_NEEDS_INPUT,
    /// The buffer for plaintext is full. There may be more.
    TLS_PLAINTEXT_FULL,
    /// The buffer for ciphertext is full. Call again with room.
    TLS_OUTPUT_FULL,
    /// The peer has sent close_notify.
    TLS_ENDED,
    /// The connection cannot be used any more. An alert that says so may be in the output.
    TLS_FAILED,
} tls_outcome;

/// NULL: no memory.
tls_connection *tls_accept(tls_context *context, tls_wire *wire);
/// `name`: the name of the server, which its certificate must have; or its address if `is_address`.
tls_connection *tls_connect(tls_context *context, tls_wire *wire, const char *name, bool is_address);
void tls_connection_free(tls_connection *connection);

/// Takes ciphertext from the wire and decrypts it, up to `capacity` bytes. Carries the handshake on if it is not done.
tls_outcome tls_read(tls_connection *connection, tls_wire *wire, void *bytes, size_t capacity, size_t *count);
/// Encrypts the bytes as one record: 1 byte to `tls_record_limit`. The output must have room for them and `tls_record_overhead`.
bool tls_write(tls_connection *connection, tls_wire *wire, const void *bytes, size_t count);
/// Writes the ticket with which a client of TLS 1.3 resumes its session: a few microseconds and 250 bytes, or more by the
/// size of the client's certificate. To be called once, before the first `tls_write`; with TLS 1.2 it writes nothing,
/// because the handshake has a ticket of its own.
///
/// - `is_first`: false if the call before has returned `TLS_OUTPUT_FULL`.
///
/// Returns `TLS_NEEDS_INPUT` if the ticket is written, `TLS_OUTPUT_FULL` or `TLS_FAILED`.
tls_outcome tls_write_ticket(tls_connection *connection, tls_wire *wire, bool is_first);
/// Writes close_notify, once, if the handshake is done.
void tls_close(tls_connection *connection, tls_wire *wire);
bool tls_is_established(const tls_connection *connection);
/// The most plaintext of a record to the peer: what its hello has asked for (RFC 6066, section 4), or
/// `tls_record_byte_count_max`. Once the handshake is done it does not change.
size_t tls_record_limit(const tls_connection *connection);

static const size_t tls_record_byte_count_max = 16384;
/// The most bytes that a record adds to its plaintext, and a KeyUpdate before it.
static const size_t tls_record_overhead = 256;

// ---- What encrypts -------------------------------------------------------------------------------------------------

/// A server's side of connections: the functions above, of OpenSSL or of what stands in its place. The simulator has a
/// cipher of its own, which is quick and draws no random bytes, so that all the code around the encryption runs the same way
/// for the same seed. Each function does what the one of that name above says.
struct tls_library {
    tls_connection *(*accept)(tls_context *context, tls_wire *wire);
    void (*free)(tls_connection *connection);
    tls_outcome (*read)(tls_connection *connection, tls_wire *wire, void *bytes, size_t capacity, size_t *count);
    bool (*write)(tls_connection *connection, tls_wire *wire, const void *bytes, size_t count);
    tls_outcome (*write_ticket)(tls_connection *connection, tls_wire *wire, bool is_first);
    void (*close)(tls_connection *connection, tls_wire *wire);
    bool (*is_established)(const tls_connection *connection);
    bool (*is_resumed)(const tls_connection *connection);
    size_t (*record_limit)(const tls_connection *connection);
};

/// OpenSSL: a constant.
const tls_library *tls_library_openssl(void);

// Calls of the wire's library: an indirect call costs an instruction more than a direct one, for each record.
static inline tls_connection *tls_library_accept(tls_context *context, tls_wire *wire) {
    return wire->library->accept(context, wire);
}
static inline void tls_library_free(tls_connection *connection, const tls_wire *wire) {
    wire->library->free(connection);
}
static inline tls_outcome tls_library_read(
    tls_connection *connection, tls_wire *wire, void *bytes, size_t capacity, size_t *count) {
    return wire->library->read(connection, wire, bytes, capacity, count);
}
static inline bool tls_library_write(tls_connection *connection, tls_wire *wire, const void *bytes, size_t count) {
    return wire->library->write(connection, wire, bytes, count);
}
static inline tls_outcome tls_library_write_ticket(tls_connection *connection, tls_wire *wire, bool is_first) {
    return wire->library->write_ticket(connection, wire, is_first);
}
static inline void tls_library_close(tls_connection *connection, tls_wire *wire) {
    wire->library->close(connection, wire);
}
static inline bool tls_library_is_established(const tls_connection *connection, const tls_wire *wire) {
    return wire->library->is_established(connection);
}
static inline bool tls_library_is_resumed(const tls_connection *connection, const tls_wire *wire) {
    return wire->library->is_resumed(connection);
}
static inline size_t tls_library_record_limit(const tls_connection *connection, const tls_wire *wire) {
    return wire->library->record_limit(connection);
}

// ---- What is known about a connection ------------------------------------------------------------------------------

typedef enum {
    TLS_PEER_COMMON_NAME,
    /// The whole subject, as RFC 2253 writes it: "CN=alice,O=Example".
    TLS_PEER_SUBJECT,
    TLS_PEER_DNS_NAME,
    TLS_PEER_EMAIL,
    TLS_PEER_URI,
} tls_peer_name;

/// Whether the peer has shown a certificate and its chain was verified.
bool tls_peer_is_verified(const tls_connection *connection);
/// Writes name number `index` of a kind as UTF-8. Returns its byte count; -1: there is none, or it does not fit, or it
/// is not a text (a certificate may hold any bytes, also NUL).
long tls_peer_name_copy(
    const tls_connection *connection, tls_peer_name kind, size_t index, char *bytes, size_t capacity);

/// The name of the server that the client asked for (SNI). NULL: none. Valid as long as the connection.
const char *tls_server_name(const tls_connection *connection);
/// "TLSv1.3".
const char *tls_version_name(const tls_connection *connection);
/// "TLS_AES_256_GCM_SHA384".
const char *tls_cipher_name(const tls_connection *connection);
bool tls_is_resumed(const tls_connection *connection);
/// The protocol that ALPN chose. Returns its byte count; 0: none.
size_t tls_protocol_copy(const tls_connection *connection, char *bytes, size_t capacity);

/// The words of OpenSSL for an error of a wire, an alert, and a result of verification. Never NULL.
const char *tls_error_text(uint64_t error);
const char *tls_alert_text(int alert);
const char *tls_verification_text(int64_t result);
/// Errors that have a meaning of their own here.
bool tls_error_is_plain_http(uint64_t error);
bool tls_error_is_other_protocol(uint64_t error);

/// For clients and tests: the last session as bytes (SSL_SESSION in DER), to be resumed. Returns the count; 0: none, or
/// no room.
size_t tls_session_copy(const tls_connection *connection, void *bytes, size_t capacity);
bool tls_session_use(tls_connection *connection, const void *bytes, size_t count);

/// For tests: asks the peer of a TLS 1.3 connection to update its keys with the next write, or at once; asks for a
/// renegotiation.
bool tls_request_key_update(tls_connection *connection);
bool tls_flush_handshake(tls_connection *connection);
bool tls_request_renegotiation(tls_connection *connection);
/// For tests: a client asks for records of at most 512 bytes. Before its hello.
bool tls_request_short_records(tls_connection *connection);

/// For tests: whether the queue of errors of this thread holds any.
bool tls_has_errors(void);

/// "OpenSSL 3.0.19 27 Jan 2026": the library in use, not the headers.
const char *tls_library_version(void);

#endif
