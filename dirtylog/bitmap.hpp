// A BitmapView with memory of its own.
#pragma once
#include <vector>

#include "dirtylog/bitmap_view.hpp"

namespace proa::dirtylog {

namespace detail {
struct BitmapMemory {
    explicit BitmapMemory(std::uint64_t pages)
        : words(words_for(pages)), summary(words_for(words_for(pages))) {}
    std::vector<std::uint64_t> words, summary;
};
}  // namespace detail

class Bitmap : private detail::BitmapMemory, public BitmapView {
  public:
    explicit Bitmap(std::uint64_t pages)
        : BitmapMemory(pages), BitmapView(BitmapMemory::words.data(), summary.data(), pages) {}
    Bitmap(const Bitmap&) = delete;
    Bitmap& operator=(const Bitmap&) = delete;
    using BitmapView::words;
};

}  // namespace proa::dirtylog
