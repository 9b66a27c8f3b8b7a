// Which keys a tile of queries sees, and the rows that its scores begin with: 0 where a key takes part, or what is
// added there, and a number whose exponential is zero where none does.

#pragma once

#include "linear.h"

namespace stcompile::STCOMPILE_GENERATION {

constexpr float kMasked = -1e30f;

template <typename T>
inline T* memory_of(Scratch& memory, Slot slot, size_t count) {
    return static_cast<T*>(memory.of(slot, count * sizeof(T)));
}

// The tokens of one text: their positions, how far each sees, which are seen at all, and what is added to the scores of
// its first head, a row of `bias_width` numbers for each position, and `bias_step` numbers behind it the next head's;
// null where nothing is.
struct Text {
    const int32_t* positions;
    size_t tokens;
    int64_t before, after;
    const float* bias;
    size_t bias_step, bias_width;
    const uint8_t* unseen;  // not 0 for tokens that none sees; null where all are seen

    bool limited() const { return before != kUnlimited || after != kUnlimited; }
    bool shows(size_t token) const { return token < tokens && (unseen == nullptr || unseen[token] == 0); }
    // Whether no padding stands between them.
    bool neighbours() const { return positions[tokens - 1] - positions[0] == static_cast<int32_t>(tokens) - 1; }
};

// Tokens from `first` up to `end`.
struct Span {
    size_t first, end;
};

// Positions increase, and so do both ends: `first` to what the query `from` sees first, `end` to behind what the query
// `last` sees last.
inline void advance(Span& span, const Text& text, size_t from, size_t last) {
    if (text.before != kUnlimited) {
        while (text.positions[span.first] < text.positions[from] - text.before) ++span.first;
    }
    if (text.after == kUnlimited) {
        span.end = text.tokens;
    } else {
        while (span.end < text.tokens && text.positions[span.end] <= text.positions[last] + text.after) ++span.end;
    }
}

// Rows of a tile of queries, `step` numbers apart.
struct MaskRows {
    const float* first;
    ptrdiff_t step;
};

// What goes from tile to tile of one share of attention, whose keys are `packed` from `base` on.
class Sight {
  public:
    // Keys are seen in multiples of `multiple`, by tiles of `most` queries.
    Sight(const Text& text, size_t base, size_t packed, size_t multiple, size_t most, Scratch& memory)
        : text_(text), multiple_(multiple), packed_(packed), most_(most), memory_(memory), seen_{base, base},
          common_(seen_) {
        if (text.bias != nullptr) return;
        if (!text.limited()) {
            row_ = memory_of<float>(memory, kMask, packed);
            for (size_t i = 0; i < packed; ++i) row_[i] = text.shows(base + i) ? 0.0f : kMasked;
        } else if (text.neighbours() && text.unseen == nullptr) {
            make_band();
        }
    }

    // Goes to the queries from the `first` on; never back.
    void move(size_t first, size_t queries) {
        query_ = first;
        queries_ = queries;
        advance(seen_, text_, first, first + queries - 1);
        advance(common_, text_, first + queries - 1, first);
        first_ = seen_.first / multiple_ * multiple_;
        width_ = rounded_up(seen_.end - first_, multiple_);
        // Behind the last token a band would let keys take part that there are not.
        banded_ = row_ != nullptr && text_.limited() && first_ + width_ <= text_.tokens;
        if (text_.bias == nullptr && text_.limited() && !banded_) write(nullptr);
    }

    size_t first() const { return first_; }
    size_t width() const { return width_; }

    // Whether all queries see all of so many keys from `start` on, and nothing is added to their scores: their rows hold
    // zeros then.
    bool all_seen(size_t start, size_t keys) const {
        return text_.bias == nullptr && text_.unseen == nullptr && first_ + start >= common_.first &&
               first_ + start + keys <= common_.end;
    }

    // The rows of one head, which all have in common where nothing is added.
    MaskRows rows(size_t head) {
        if (text_.bias != nullptr) write(text_.bias + head * text_.bias_step);
        if (banded_) return {row_ + (middle_ + first_ - query_), -1};
        if (row_ != nullptr && !text_.limited()) return {row_, 0};
        return {strip_, static_cast<ptrdiff_t>(width_)};
    }

  private:
    // One row for all queries: of a key, its place behind a query decides alone. A query's row begins one number before
    // that of the query before it.
    void make_band() {
        const size_t length = 2 * (packed_ + most_);
        middle_ = packed_ + most_;
        row_ = memory_of<float>(memory_, kMask, length);
        for (size_t i = 0; i < length; ++i) {
            const int64_t away = static_cast<int64_t>(i) - static_cast<int64_t>(middle_);
            row_[i] = away >= -text_.before && away <= text_.after ? 0.0f : kMasked;
        }
    }

    // A row for each query, in base 2. Tokens are mostly neighbours; where padding stands between them, their columns
    // are gathered.
    void write(const float* bias) {
        strip_ = memory_of<float>(memory_, kBias, most_ * packed_);
        const bool neighbours = bias != nullptr && text_.neighbours();
        Span span{seen_.first, seen_.first};
        for (size_t q = 0; q < queries_; ++q) {
            advance(span, text_, query_ + q, query_ + q);
            float* to = strip_ + q * width_;
            const size_t from = span.first - first_, end = span.end - first_;
            size_t i = 0;
            for (; i < from; ++i) to[i] = kMasked;
            if (bias == nullptr) {
                for (; i < end; ++i) to[i] = 0.0f;
            } else {
                const float* row = bias + text_.positions[query_ + q] * text_.bias_width;
                if (neighbours) {
                    row += text_.positions[0] + first_;
                    for (; i + kLanes <= end; i += kLanes) {
                        store(to + i, larger(load(row + i) * all(kLog2E), all(kMasked)));
                    }
                }
                // Not below kMasked: the lowest number of all times this is infinite, of which the powers of some
                // generations are no number.
                for (; i < end; ++i) {
                    const float added = (neighbours ? row[i] : row[text_.positions[first_ + i]]) * kLog2E;
                    to[i] = added > kMasked ? added : kMasked;
                }
            }
            for (; i < width_; ++i) to[i] = kMasked;
            if (text_.unseen == nullptr) continue;
            for (i = from; i < end; ++i) {
                if (text_.unseen[first_ + i] != 0) to[i] = kMasked;
            }
        }
    }

    const Text& text_;
    size_t multiple_, packed_, most_;
    Scratch& memory_;
    Span seen_, common_;  // by any query of the tile, and by all
    float *row_ = nullptr, *strip_ = nullptr;
    size_t query_ = 0, queries_ = 0, first_ = 0, width_ = 0, middle_ = 0;
    bool banded_ = false;
};

}  // namespace stcompile::STCOMPILE_GENERATION
