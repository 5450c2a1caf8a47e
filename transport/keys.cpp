#include "transport/keys.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

namespace proa::transport {
namespace {

template <auto F>
struct Free {
    template <class T>
    void operator()(T* p) const {
        F(p);
    }
};
using Key = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Free<X509_free>>;

Error openssl_error(const std::string& what) {
    char text[256] = "";
    ERR_error_string_n(ERR_get_error(), text, sizeof(text));
    return {ErrorKind::Tls, what + ": " + text, ""};
}

bool exists(const std::string& path) {
    return ::access(path.c_str(), F_OK) == 0;
}

template <class W>
Result<void> write_pem(const std::string& path, mode_t mode, W&& write) {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    std::FILE* f = fd < 0 ? nullptr : ::fdopen(fd, "w");
    if (f == nullptr) return fail(ErrorKind::Io, "cannot write " + path + ": " + std::strerror(errno));
    const bool ok = write(f) == 1;
    return std::fclose(f) == 0 && ok ? Result<void>() : tl::unexpected(openssl_error("cannot write " + path));
}

void extend(X509* c, X509* issuer, int nid, const std::string& value) {
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, c, nullptr, nullptr, 0);
    std::unique_ptr<X509_EXTENSION, Free<X509_EXTENSION_free>> e(
        X509V3_EXT_conf_nid(nullptr, &ctx, nid, value.c_str()));
    if (e) X509_add_ext(c, e.get(), -1);
}

Certificate make(EVP_PKEY* key, const std::string& name, X509* issuer, EVP_PKEY* issuer_key, int days) {
    Certificate c(X509_new());
    X509_set_version(c.get(), 2);
    std::uint8_t serial[16];
    RAND_bytes(serial, sizeof(serial));
    serial[0] &= 0x7f;
    std::unique_ptr<BIGNUM, Free<BN_free>> n(BN_bin2bn(serial, sizeof(serial), nullptr));
    BN_to_ASN1_INTEGER(n.get(), X509_get_serialNumber(c.get()));
    X509_gmtime_adj(X509_getm_notBefore(c.get()), -86400);  // boards boot with their clocks behind
    X509_gmtime_adj(X509_getm_notAfter(c.get()), 86400L * days);
    X509_set_pubkey(c.get(), key);
    X509_NAME* subject = X509_get_subject_name(c.get());
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
                               reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
    X509_set_issuer_name(c.get(), issuer != nullptr ? X509_get_subject_name(issuer) : subject);
    X509* by = issuer != nullptr ? issuer : c.get();
    if (issuer == nullptr) {
        extend(c.get(), by, NID_basic_constraints, "critical,CA:TRUE,pathlen:0");
        extend(c.get(), by, NID_key_usage, "critical,keyCertSign");
    } else {
        std::uint8_t address[16];
        const bool ip = ::inet_pton(AF_INET, name.c_str(), address) == 1 ||
                        ::inet_pton(AF_INET6, name.c_str(), address) == 1;
        extend(c.get(), by, NID_basic_constraints, "critical,CA:FALSE");
        extend(c.get(), by, NID_ext_key_usage, "serverAuth,clientAuth");
        extend(c.get(), by, NID_subject_alt_name, (ip ? "IP:" : "DNS:") + name);
    }
    if (X509_sign(c.get(), issuer_key != nullptr ? issuer_key : key, EVP_sha256()) == 0) return nullptr;
    return c;
}

Result<void> save(const std::string& certificate, X509* c, const std::string& key, EVP_PKEY* k) {
    if (auto r = write_pem(
            key, 0600,
            [&](std::FILE* f) { return PEM_write_PrivateKey(f, k, nullptr, nullptr, 0, nullptr, nullptr); });
        !r)
        return r;
    return write_pem(certificate, 0644, [&](std::FILE* f) { return PEM_write_X509(f, c); });
}

template <class T, class R>
T* load_pem(const std::string& path, R&& read) {
    std::FILE* f = std::fopen(path.c_str(), "re");
    if (f == nullptr) return nullptr;
    T* t = read(f);
    std::fclose(f);
    return t;
}

}  // namespace

Result<void> init_keys(const std::string& d, const std::vector<std::string>& hosts, int days) {
    ::mkdir(d.c_str(), 0700);
    Key ca_key;
    Certificate ca;
    if (exists(d + "/ca.pem")) {
        ca.reset(load_pem<X509>(d + "/ca.pem",
                                [](std::FILE* f) { return PEM_read_X509(f, nullptr, nullptr, nullptr); }));
        ca_key.reset(load_pem<EVP_PKEY>(
            d + "/ca.key", [](std::FILE* f) { return PEM_read_PrivateKey(f, nullptr, nullptr, nullptr); }));
        if (!ca || !ca_key)
            return fail(ErrorKind::Tls, "cannot read " + d + "/ca.pem and ca.key",
                        "run this where the CA was made, or in an empty directory");
    } else {
        ca_key.reset(EVP_EC_gen("P-256"));
        ca = make(ca_key.get(), "proa cluster CA", nullptr, nullptr, days);
        if (!ca) return tl::unexpected(openssl_error("cannot make a CA"));
        if (auto r = save(d + "/ca.pem", ca.get(), d + "/ca.key", ca_key.get()); !r) return r;
    }
    for (const auto& h : hosts) {
        if (h.empty() || h[0] == '.' || h.find('/') != std::string::npos)
            return fail(ErrorKind::Refused, "'" + h + "' is not a host name or address");
        const std::string to = d + "/" + h;
        if (::mkdir(to.c_str(), 0700) != 0)
            return fail(ErrorKind::Refused, to + ": " + std::strerror(errno),
                        "its keys exist; remove the directory to make new ones");
        Key key(EVP_EC_gen("P-256"));
        const Certificate c = make(key.get(), h, ca.get(), ca_key.get(), days);
        if (!c) return tl::unexpected(openssl_error("cannot make a certificate for " + h));
        if (auto r = save(to + "/host.pem", c.get(), to + "/host.key", key.get()); !r) return r;
        if (auto r = write_pem(to + "/ca.pem", 0644, [&](std::FILE* f) { return PEM_write_X509(f, ca.get()); });
            !r)
            return r;
    }
    return {};
}

}  // namespace proa::transport
