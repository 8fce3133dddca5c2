#include "internal.h"
#include <string.h>

// The longest name of a host (RFC 1035, section 2.3.4: 255 bytes on the wire, 253 as text), and room for the end.
enum { host_capacity = 256 };

static int compare(const tls_host *host, bool is_wildcard, const char *text) {
    if (host->is_wildcard != is_wildcard) return host->is_wildcard ? 1 : -1;
    return strcmp(host->text, text);
}

/// The position of the name among the sorted hosts, or where it would be.
static size_t position(const tls_context *context, bool is_wildcard, const char *text, bool *is_found) {
    size_t low = 0;
    size_t high = context->host_count;
    *is_found = false;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = compare(&context->hosts[middle], is_wildcard, text);
        if (order == 0) *is_found = true;
        if (order >= 0) high = middle;
        else low = middle + 1;
    }
    return low;
}

static bool copy_lower(char *copy, const char *text, size_t count) {
    if (count == 0 || count >= host_capacity) return false;
    for (size_t i = 0; i < count; i++) {
        // Names of hosts are ASCII (RFC 5890: xn--). The locale must not matter.
        char byte = text[i];
        if (byte <= ' ' || byte > '~') return false;
        copy[i] = byte >= 'A' && byte <= 'Z' ? (char)(byte + 32) : byte;
    }
    copy[count] = 0;
    return true;
}

SSL_CTX *tls_context_find(const tls_context *context, const char *name) {
    char host[host_capacity];
    size_t count = strlen(name);
    // "example.org." is the same host.
    if (count > 1 && name[count - 1] == '.') count--;
    if (!copy_lower(host, name, count)) return context->contexts[0];
    bool is_found;
    size_t index = position(context, false, host, &is_found);
    if (is_found) return context->contexts[context->hosts[index].context_index];
    // A wildcard stands for exactly one label (RFC 6125, section 6.4.3).
    const char *dot = strchr(host, '.');
    if (!dot || dot == host) return context->contexts[0];
    index = position(context, true, dot + 1, &is_found);
    return context->contexts[is_found ? context->hosts[index].context_index : 0];
}

bool tls_context_serves(tls_context *context, const char *name) {
    if (tls_context_find(context, name) != context->contexts[0]) return true;
    // The first certificate answers for its own names and for those that no other has.
    char host[host_capacity];
    size_t count = strlen(name);
    if (count > 1 && name[count - 1] == '.') count--;
    if (!copy_lower(host, name, count)) return false;
    bool is_found;
    position(context, false, host, &is_found);
    const char *dot = strchr(host, '.');
    if (!is_found && dot && dot != host) position(context, true, dot + 1, &is_found);
    return is_found;
}

/// 1: the name was added. 0: it is there already, or is no name of a host. -1: no memory.
static int add_host(tls_context *context, const char *bytes, size_t count, size_t context_index) {
    char text[host_capacity];
    bool is_wildcard = count > 2 && bytes[0] == '*' && bytes[1] == '.';
    if (is_wildcard) {
        bytes += 2;
        count -= 2;
    }
    // The parts of a name with wildcards in other places are never matched (RFC 6125, section 6.4.3).
    if (!copy_lower(text, bytes, count) || strchr(text, '*')) return 0;
    bool is_found;
    size_t index = position(context, is_wildcard, text, &is_found);
    if (is_found) return 0;
    tls_host *hosts = realloc(context->hosts, (context->host_count + 1) * sizeof *hosts);
    if (!hosts) return -1;
    context->hosts = hosts;
    char *copy = strdup(text);
    if (!copy) return -1;
    memmove(hosts + index + 1, hosts + index, (context->host_count - index) * sizeof *hosts);
    hosts[index] = (tls_host){.text = copy, .context_index = context_index, .is_wildcard = is_wildcard};
    context->host_count++;
    return 1;
}

static long add_common_name(tls_context *context, X509 *certificate, size_t context_index, bool *has_names) {
    X509_NAME *subject = X509_get_subject_name(certificate);
    int index = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (index < 0) return 0;
    unsigned char *text = NULL;
    int count = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, index)));
    if (count < 0) return 0;
    int result = add_host(context, (const char *)text, (size_t)count, context_index);
    *has_names = true;
    OPENSSL_free(text);
    return result;
}

long tls_context_add_hosts(tls_context *context, X509 *certificate, size_t context_index, bool *has_names) {
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    long added = 0;
    for (int i = 0; added >= 0 && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_DNS) continue;
        *has_names = true;
        const ASN1_IA5STRING *text = name->d.dNSName;
        const char *bytes = (const char *)ASN1_STRING_get0_data(text);
        int result = add_host(context, bytes, (size_t)ASN1_STRING_length(text), context_index);
        added = result < 0 ? -1 : added + result;
    }
    GENERAL_NAMES_free(names);
    // RFC 6125, section 6.4.4: the common name counts only if there is no other name.
    if (added == 0 && !*has_names) added = add_common_name(context, certificate, context_index, has_names);
    return added;
}
