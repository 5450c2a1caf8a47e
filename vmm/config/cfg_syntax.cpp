// xl.cfg's grammar: KEY = VALUE or KEY += VALUE, VALUE an integer, a quoted string or a list of strings; `#` comments;
// newline or `;` ends a setting.
#include <cctype>
#include <charconv>

#include "vmm/config/guest_config.hpp"

namespace proa::vmm {
namespace {

class Parser {
  public:
    Parser(const std::string& text, const std::string& file) : text_(text), file_(file) {}

    Result<std::map<std::string, CfgValue>> run() {
        std::map<std::string, CfgValue> out;
        for (skip(true); at_ < text_.size(); skip(true)) {
            const unsigned line = line_;
            const std::string key = word();
            if (key.empty()) return error("expected a setting, found '" + std::string(1, text_[at_]) + "'");
            skip(false);
            const bool append = peek() == '+';
            if (append) ++at_;
            if (peek() != '=') return error("expected '=' after " + key);
            ++at_;
            skip(false);
            auto v = value();
            if (!v) return tl::unexpected(v.error());
            v->line = line;
            skip(false);
            if (at_ < text_.size() && peek() != '\n' && peek() != ';')
                return error("more text after the value of " + key);
            if (append && out.count(key) != 0) {
                if (auto e = join(out[key], *v); !e) return tl::unexpected(e.error());
            } else {
                out[key] = *v;
            }
        }
        return out;
    }

  private:
    tl::unexpected<Error> error(const std::string& what) const {
        return fail(file_ + ":" + std::to_string(line_) + ": " + what, "the syntax is that of xl.cfg(5)");
    }
    char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
    void skip(bool newlines) {
        for (; at_ < text_.size(); ++at_) {
            const char c = text_[at_];
            if (c == '#') {
                while (at_ + 1 < text_.size() && text_[at_ + 1] != '\n') ++at_;
            } else if (c == '\n') {
                if (!newlines) return;
                ++line_;
            } else if (c == ';' ? !newlines : std::isspace(static_cast<unsigned char>(c)) == 0) {
                return;
            }
        }
    }
    std::string word() {
        std::size_t end = at_;
        while (end < text_.size() &&
               (std::isalnum(static_cast<unsigned char>(text_[end])) != 0 || text_[end] == '_'))
            ++end;
        std::string w = text_.substr(at_, end - at_);
        at_ = end;
        return w;
    }
    Result<std::string> quoted() {
        const char q = peek();
        std::string s;
        for (++at_; at_ < text_.size() && peek() != q; ++at_) {
            if (peek() == '\n') return error("a string that isn't closed");
            s += peek();
        }
        if (at_ >= text_.size()) return error("a string that isn't closed");
        ++at_;
        return s;
    }
    Result<CfgValue> value() {
        const char c = peek();
        if (c == '"' || c == '\'') {
            auto s = quoted();
            if (!s) return tl::unexpected(s.error());
            return CfgValue{*s, 0};
        }
        if (c == '[') return list();
        const std::string w = word();
        std::int64_t n = 0;
        const bool hex = w.size() > 2 && w[0] == '0' && (w[1] == 'x' || w[1] == 'X');
        const char* first = w.data() + (hex ? 2 : 0);
        const auto r = std::from_chars(first, w.data() + w.size(), n, hex ? 16 : 10);
        if (w.empty() || r.ec != std::errc() || r.ptr != w.data() + w.size())
            return error("expected a number, a quoted string or a [ list ]");
        return CfgValue{n, 0};
    }
    Result<CfgValue> list() {
        std::vector<std::string> items;
        ++at_;
        for (;;) {
            skip(true);
            if (peek() == ']') break;
            if (peek() == '"' || peek() == '\'') {
                auto s = quoted();
                if (!s) return tl::unexpected(s.error());
                items.push_back(*s);
            } else {
                const std::string w = word();
                if (w.empty()) return error("a list that isn't closed");
                items.push_back(w);
            }
            skip(true);
            if (peek() == ',') ++at_;
        }
        ++at_;
        return CfgValue{items, 0};
    }
    Result<void> join(CfgValue& to, const CfgValue& more) {
        if (to.value.index() != more.value.index() || std::holds_alternative<std::int64_t>(to.value))
            return error("+= joins two strings or two lists");
        if (auto* s = std::get_if<std::string>(&to.value)) {
            *s += std::get<std::string>(more.value);
        } else {
            auto& v = std::get<std::vector<std::string>>(to.value);
            const auto& m = std::get<std::vector<std::string>>(more.value);
            v.insert(v.end(), m.begin(), m.end());
        }
        return {};
    }

    const std::string& text_;
    const std::string& file_;
    std::size_t at_ = 0;
    unsigned line_ = 1;
};

}  // namespace

Result<std::map<std::string, CfgValue>> parse_cfg(const std::string& text, const std::string& file) {
    return Parser(text, file).run();
}

}  // namespace proa::vmm
