#define _GNU_SOURCE
#include "caccess.h"

#include <crypt.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <string.h>

// --- Passwords ---------------------------------------------------------------------------------------------------

size_t caccess_crypt_scratch_size(void) { return sizeof(struct crypt_data); }

bool caccess_crypt(const char *passphrase, const char *setting, void *scratch, char *hash, size_t size) {
    struct crypt_data *data = scratch;
    memset(data, 0, sizeof *data);
    const char *result = crypt_r(passphrase, setting, data);
    // A failure is told by a string that begins with an asterisk, or by NULL.
    bool isHashed = result != NULL && result[0] != '*' && strlen(result) < size;
    if (isHashed) memcpy(hash, result, strlen(result) + 1);
    explicit_bzero(data, sizeof *data);
    return isHashed;
}

bool caccess_crypt_knows(const char *setting) {
    int answer = crypt_checksalt(setting);
    return answer != CRYPT_SALT_INVALID && answer != CRYPT_SALT_METHOD_DISABLED;
}

bool caccess_crypt_setting(const char *prefix, unsigned long cost, char *setting, size_t size) {
    return crypt_gensalt_rn(prefix, cost, NULL, 0, setting, (int)size) != NULL;
}

void caccess_clear(void *bytes, size_t count) { explicit_bzero(bytes, count); }

bool caccess_equal(const void *a, const void *b, size_t count) { return CRYPTO_memcmp(a, b, count) == 0; }

// --- Digests -----------------------------------------------------------------------------------------------------

bool caccess_sha1(const void *bytes, size_t count, uint8_t *digest) {
    return EVP_Digest(bytes, count, digest, NULL, EVP_sha1(), NULL) == 1;
}

bool caccess_sha256(const void *bytes, size_t count, uint8_t *digest) {
    return EVP_Digest(bytes, count, digest, NULL, EVP_sha256(), NULL) == 1;
}

bool caccess_hmac_sha256(const void *key, size_t key_count, const void *bytes, size_t count, uint8_t *digest) {
    unsigned int digest_count = 0;
    return HMAC(EVP_sha256(), key, (int)key_count, bytes, count, digest, &digest_count) != NULL && digest_count == 32;
}

// --- Public keys -------------------------------------------------------------------------------------------------

struct caccess_key {
    EVP_PKEY *pkey;
    enum caccess_key_kind kind;
};

static enum caccess_key_kind kind_of(EVP_PKEY *pkey) {
    if (EVP_PKEY_is_a(pkey, "ED25519")) return CACCESS_KEY_ED25519;
    if (EVP_PKEY_is_a(pkey, "RSA")) return EVP_PKEY_get_bits(pkey) >= 2048 ? CACCESS_KEY_RSA : CACCESS_KEY_OTHER;
    char group[32] = {0};
    size_t length = 0;
    if (EVP_PKEY_is_a(pkey, "EC") && EVP_PKEY_get_group_name(pkey, group, sizeof group, &length) == 1
        && (strcmp(group, "prime256v1") == 0 || strcmp(group, "P-256") == 0)) {
        return CACCESS_KEY_P256;
    }
    return CACCESS_KEY_OTHER;
}

/// Takes over the key.
static struct caccess_key *wrap(EVP_PKEY *pkey) {
    if (pkey == NULL) return NULL;
    struct caccess_key *key = OPENSSL_malloc(sizeof *key);
    if (key == NULL) {
        EVP_PKEY_free(pkey);
        return NULL;
    }
    key->pkey = pkey;
    key->kind = kind_of(pkey);
    return key;
}

struct caccess_key *caccess_key_from_pem(const void *text, size_t count) {
    BIO *bio = BIO_new_mem_buf(text, (int)count);
    if (bio == NULL) return NULL;
    EVP_PKEY *pkey = PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL);
    BIO_free(bio);
    return wrap(pkey);
}

static EVP_PKEY *from_parameters(const char *type, OSSL_PARAM *parameters) {
    EVP_PKEY *pkey = NULL;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    if (context == NULL || parameters == NULL || EVP_PKEY_fromdata_init(context) != 1
        || EVP_PKEY_fromdata(context, &pkey, EVP_PKEY_PUBLIC_KEY, parameters) != 1) {
        pkey = NULL;
    }
    EVP_PKEY_CTX_free(context);
    return pkey;
}

struct caccess_key *caccess_key_from_rsa(
    const uint8_t *modulus, size_t modulus_count, const uint8_t *exponent, size_t exponent_count) {
    BIGNUM *n = BN_bin2bn(modulus, (int)modulus_count, NULL);
    BIGNUM *e = BN_bin2bn(exponent, (int)exponent_count, NULL);
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    OSSL_PARAM *parameters = NULL;
    if (n != NULL && e != NULL && builder != NULL && OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, n) == 1
        && OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, e) == 1) {
        parameters = OSSL_PARAM_BLD_to_param(builder);
    }
    EVP_PKEY *pkey = from_parameters("RSA", parameters);
    OSSL_PARAM_free(parameters);
    OSSL_PARAM_BLD_free(builder);
    BN_free(n);
    BN_free(e);
    return wrap(pkey);
}

struct caccess_key *caccess_key_from_p256(const uint8_t *x, const uint8_t *y) {
    uint8_t point[65] = {0x04};
    memcpy(point + 1, x, 32);
    memcpy(point + 33, y, 32);
    char group[] = "prime256v1";
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point),
        OSSL_PARAM_construct_end(),
    };
    return wrap(from_parameters("EC", parameters));
}

struct caccess_key *caccess_key_from_ed25519(const uint8_t *bytes) {
    return wrap(EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, bytes, 32));
}

enum caccess_key_kind caccess_key_kind(const struct caccess_key *key) { return key->kind; }

/// JWS has r and s side by side; OpenSSL wants them in DER. Returns its size, which is at most 72; 0: no memory.
static int der_of(const uint8_t *signature, uint8_t *der) {
    ECDSA_SIG *pair = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(signature, 32, NULL);
    BIGNUM *s = BN_bin2bn(signature + 32, 32, NULL);
    if (pair == NULL || r == NULL || s == NULL || ECDSA_SIG_set0(pair, r, s) != 1) {
        BN_free(r);
        BN_free(s);
        ECDSA_SIG_free(pair);
        return 0;
    }
    int count = i2d_ECDSA_SIG(pair, &der);
    ECDSA_SIG_free(pair);
    return count > 0 ? count : 0;
}

bool caccess_key_verifies(
    const struct caccess_key *key, const void *bytes, size_t count, const uint8_t *signature, size_t signature_count) {
    uint8_t der[80];
    const EVP_MD *digest = EVP_sha256();
    switch (key->kind) {
    case CACCESS_KEY_RSA: break;
    case CACCESS_KEY_ED25519: digest = NULL; break;
    case CACCESS_KEY_P256:
        if (signature_count != 64) return false;
        signature_count = (size_t)der_of(signature, der);
        if (signature_count == 0) return false;
        signature = der;
        break;
    case CACCESS_KEY_OTHER: return false;
    }
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    // RSA's padding is PKCS #1 v1.5 unless another one is asked for.
    bool isValid = context != NULL && EVP_DigestVerifyInit(context, NULL, digest, NULL, key->pkey) == 1
        && EVP_DigestVerify(context, signature, signature_count, bytes, count) == 1;
    EVP_MD_CTX_free(context);
    return isValid;
}

void caccess_key_free(struct caccess_key *key) {
    if (key == NULL) return;
    EVP_PKEY_free(key->pkey);
    OPENSSL_free(key);
}
