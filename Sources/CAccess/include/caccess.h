// Passwords (crypt(3) of libxcrypt) and signatures (OpenSSL 3's EVP) for the module Access.
#ifndef CACCESS_H
#define CACCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// --- Passwords ---------------------------------------------------------------------------------------------------

/// Bytes of the scratch memory that `caccess_crypt` takes. One caller at a time may use it.
size_t caccess_crypt_scratch_size(void);

/// crypt(3): hashes a passphrase with the method, cost and salt that `setting`, often another hash, begins with. Writes at
/// most `size` bytes with the final NUL, and clears the scratch memory. False: the setting is no good, or there was no memory.
bool caccess_crypt(const char *passphrase, const char *setting, void *scratch, char *hash, size_t size);

/// crypt_checksalt(3): whether crypt(3) can hash with that setting.
bool caccess_crypt_knows(const char *setting);

/// crypt_gensalt(3) with random bytes of the kernel: a new setting of the method that `prefix` names. A cost of 0 is the
/// method's own default.
bool caccess_crypt_setting(const char *prefix, unsigned long cost, char *setting, size_t size);

/// Overwrites memory that held a secret. The compiler does not leave it out.
void caccess_clear(void *bytes, size_t count);

/// Compares in a time that does not depend on where the bytes differ.
bool caccess_equal(const void *a, const void *b, size_t count);

// --- Digests -----------------------------------------------------------------------------------------------------

/// SHA-1, 20 bytes. False: the library refuses it.
bool caccess_sha1(const void *bytes, size_t count, uint8_t *digest);

/// SHA-256, 32 bytes.
bool caccess_sha256(const void *bytes, size_t count, uint8_t *digest);

/// HMAC with SHA-256, 32 bytes.
bool caccess_hmac_sha256(const void *key, size_t key_count, const void *bytes, size_t count, uint8_t *digest);

// --- Public keys -------------------------------------------------------------------------------------------------

/// What a key can verify.
enum caccess_key_kind {
    CACCESS_KEY_OTHER = 0,
    /// RSA of 2048 bits or more.
    CACCESS_KEY_RSA = 1,
    /// EC on the curve P-256.
    CACCESS_KEY_P256 = 2,
    CACCESS_KEY_ED25519 = 3,
};

/// A public key. May be used by several threads at once.
struct caccess_key;

/// Reads a PEM file's text ("BEGIN PUBLIC KEY"). NULL: it is none.
struct caccess_key *caccess_key_from_pem(const void *text, size_t count);

/// From modulus and exponent, big-endian.
struct caccess_key *caccess_key_from_rsa(
    const uint8_t *modulus, size_t modulus_count, const uint8_t *exponent, size_t exponent_count);

/// From a point on P-256: two coordinates of 32 bytes. NULL: it is not on the curve.
struct caccess_key *caccess_key_from_p256(const uint8_t *x, const uint8_t *y);

/// From the 32 bytes of an Ed25519 public key.
struct caccess_key *caccess_key_from_ed25519(const uint8_t *bytes);

enum caccess_key_kind caccess_key_kind(const struct caccess_key *key);

/// Whether `signature` is that of `bytes`: RSASSA-PKCS1-v1_5 with SHA-256, ECDSA with SHA-256 (64 bytes, r and s), or
/// Ed25519, as the kind of the key says.
bool caccess_key_verifies(
    const struct caccess_key *key, const void *bytes, size_t count, const uint8_t *signature, size_t signature_count);

void caccess_key_free(struct caccess_key *key);

#endif
