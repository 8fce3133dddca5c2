#include "internal.h"
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

// RFC 5077, section 4: a ticket is the name of its key, an IV, the encrypted session and a MAC over all of it.
typedef struct {
    uint8_t name[16];
    uint8_t cipher_key[32];
    uint8_t mac_key[32];
} ticket_key;

struct tls_ticket_keys {
    atomic_size_t reference_count;
    uint64_t period_seconds;
    /// When the current key was made.
    atomic_uint_fast64_t made_seconds;
    EVP_CIPHER *cipher;
    pthread_mutex_t lock;
    // Under the lock.
    ticket_key current;
    ticket_key previous;
    bool has_previous;
};

static bool make_key(ticket_key *key) { return RAND_bytes((unsigned char *)key, sizeof *key) == 1; }

tls_ticket_keys *tls_ticket_keys_create(uint64_t now_seconds, uint64_t period_seconds) {
    tls_ticket_keys *keys = calloc(1, sizeof *keys);
    if (!keys) return NULL;
    keys->cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
    if (!keys->cipher || !make_key(&keys->current)) {
        EVP_CIPHER_free(keys->cipher);
        ERR_clear_error();
        free(keys);
        return NULL;
    }
    atomic_init(&keys->reference_count, 1);
    atomic_init(&keys->made_seconds, now_seconds);
    keys->period_seconds = period_seconds;
    pthread_mutex_init(&keys->lock, NULL);
    return keys;
}

void tls_ticket_keys_retain(tls_ticket_keys *keys) { atomic_fetch_add(&keys->reference_count, 1); }

void tls_ticket_keys_release(tls_ticket_keys *keys) {
    if (atomic_fetch_sub(&keys->reference_count, 1) != 1) return;
    EVP_CIPHER_free(keys->cipher);
    pthread_mutex_destroy(&keys->lock);
    OPENSSL_cleanse(&keys->current, sizeof keys->current);
    OPENSSL_cleanse(&keys->previous, sizeof keys->previous);
    free(keys);
}

static bool is_due(tls_ticket_keys *keys, uint64_t now_seconds, uint64_t *age_seconds) {
    uint64_t made_seconds = atomic_load_explicit(&keys->made_seconds, memory_order_relaxed);
    *age_seconds = now_seconds > made_seconds ? now_seconds - made_seconds : 0;
    return *age_seconds >= keys->period_seconds;
}

bool tls_ticket_keys_renew(tls_ticket_keys *keys, uint64_t now_seconds) {
    uint64_t age_seconds;
    if (!is_due(keys, now_seconds, &age_seconds)) return false;
    ticket_key fresh;
    bool is_renewed = false;
    pthread_mutex_lock(&keys->lock);
    // Another thread may have been first.
    if (is_due(keys, now_seconds, &age_seconds) && make_key(&fresh)) {
        // After a long sleep the current key is as old as a previous one would be.
        keys->has_previous = age_seconds < 2 * keys->period_seconds;
        keys->previous = keys->current;
        keys->current = fresh;
        atomic_store_explicit(&keys->made_seconds, now_seconds, memory_order_relaxed);
        is_renewed = true;
    }
    pthread_mutex_unlock(&keys->lock);
    OPENSSL_cleanse(&fresh, sizeof fresh);
    ERR_clear_error();
    return is_renewed;
}

/// Finds the key by its name. 1: the current one; 2: the previous one, so that the ticket should be renewed; 0: none.
static int find_key(tls_ticket_keys *keys, const unsigned char *name, ticket_key *key) {
    int found = 0;
    pthread_mutex_lock(&keys->lock);
    if (memcmp(name, keys->current.name, sizeof keys->current.name) == 0) {
        *key = keys->current;
        found = 1;
    } else if (keys->has_previous && memcmp(name, keys->previous.name, sizeof keys->previous.name) == 0) {
        *key = keys->previous;
        found = 2;
    }
    pthread_mutex_unlock(&keys->lock);
    return found;
}

static bool set_mac_key(EVP_MAC_CTX *mac, ticket_key *key) {
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->mac_key, sizeof key->mac_key),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, "SHA256", 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_MAC_CTX_set_params(mac, parameters);
}

// Returns 1 if the contexts are set, 2 if the ticket should be renewed too, 0 if there is no key for the ticket (the
// handshake goes on without it), -1 after an error.
int tls_ticket_key_use(
    SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int is_encrypting) {
    tls_context *context = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), tls_context_index());
    tls_ticket_keys *keys = context ? context->keys : NULL;
    if (!keys) return 0;
    ticket_key key;
    int result = 1;
    if (is_encrypting) {
        pthread_mutex_lock(&keys->lock);
        key = keys->current;
        pthread_mutex_unlock(&keys->lock);
        memcpy(name, key.name, sizeof key.name);
        if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(keys->cipher)) != 1 ||
            !EVP_EncryptInit_ex2(cipher, keys->cipher, key.cipher_key, iv, NULL))
            result = -1;
    } else {
        result = find_key(keys, name, &key);
        if (result > 0 && !EVP_DecryptInit_ex2(cipher, keys->cipher, key.cipher_key, iv, NULL)) result = -1;
    }
    if (result > 0 && !set_mac_key(mac, &key)) result = -1;
    OPENSSL_cleanse(&key, sizeof key);
    return result;
}
