// Products of 16 rows with 16 columns in one instruction: AMX, on top of AVX-512.
//
// Panels are read where they lie: 16 words of 16 columns, 64 words apart, are one tile. A tile of activations is 16
// rows of 64 bytes. All eight tile registers have that one shape; rows that are not there are multiplied and dropped.

#pragma once

#include "../encoder_layer.h"

namespace stcompile::STCOMPILE_GENERATION {

constexpr size_t kTile = 16;  // rows, columns, and words of the inner axis
constexpr size_t kPanelBytes = kPanel * sizeof(int32_t);

// Instructions are written out below: compilers' own functions for them do not all say that memory is read.
struct alignas(64) TileShapes {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// This thread's tile registers, up to the end of the scope.
struct Tiles {
    Tiles() {
        const TileShapes shapes;
        __asm__ volatile("ldtilecfg %0" : : "m"(shapes) : "memory");
    }
    ~Tiles() { __asm__ volatile("tilerelease" : : : "memory"); }
    Tiles(const Tiles&) = delete;
    Tiles& operator=(const Tiles&) = delete;

    template <int tile>
    static void clear() {
        __asm__ volatile("tilezero %%tmm%c0" : : "i"(tile));
    }
    template <int tile>
    static void load(const void* from, size_t step) {  // bytes between rows
        __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(step), "i"(tile) : "memory");
    }
    template <int tile>
    static void store(void* to, size_t step) {
        __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(step), "i"(tile) : "memory");
    }
    template <int sum, int rows, int columns>
    static void add(const uint8_t*) {
        __asm__ volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sum), "i"(rows), "i"(columns));
    }
    template <int sum, int rows, int columns>
    static void add(const uint16_t*) {
        __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sum), "i"(rows), "i"(columns));
    }
};

// Products of blocks of rows. Fewer rows than `fewest` are multiplied without tiles.
template <typename Number, size_t fewest>
struct TileProduct {
    using Element = typename Number::Element;
    using Sum = typename Number::Sum;
    static constexpr Block kRows{4 * kTile, 8 * kTile, kTile};

    // Rows are filled up with zeros to whole tiles.
    static size_t stride(size_t in) { return rounded_up(in, kTile * Number::kWord); }
    static void fill_up(Element* row, size_t in) { std::memset(row + in, 0, (stride(in) - in) * sizeof(Element)); }

    template <typename Output>
    static void run(
        const Element* x, const float* scales, size_t rows, const Linear& layer, const Output& output, Scratch&) {
        const size_t step = stride(layer.in), words = layer.in / Number::kWord, whole = words / kTile * kTile;
        if (rows < fewest) return multiply<Number>(x, step, scales, rows, layer, output);
        alignas(64) int32_t last[kTile * kPanel] = {};  // the last words of a panel, filled up to a tile
        Sum sums[kPanel], starts[kPanel / kLanes];
        const Tiles tiles;
        const auto* panel = static_cast<const int32_t*>(layer.weights);
        for (size_t column = 0; column < layer.out; column += kPanel, panel += kPanel * words) {
            if (whole < words) std::memcpy(last, panel + whole * kPanel, (words - whole) * kPanelBytes);
            begin<Number, kPanel>(layer, column, starts);
            for (size_t row = 0; row < rows; row += 2 * kTile) {
                const Element* from = x + row * step;
                const auto each = [&](size_t first, const auto& add) {
                    for (size_t k = 0; k < whole; k += kTile) add(from + k * Number::kWord, panel + k * kPanel + first);
                    if (whole < words) add(from + whole * Number::kWord, last + first);
                };
                if (rows - row <= kTile) {
                    one_by_four(each, step * sizeof(Element), starts, sums);
                    put_out<Number, kPanel>(sums, row, rows - row, scales, layer, column, output);
                    continue;
                }
                for (size_t first = 0; first < kPanel && column + first < layer.out; first += 2 * kTile) {
                    two_by_two(each, first, step * sizeof(Element), starts + first / kLanes, sums);
                    const size_t here = smaller(2 * kTile, rows - row);
                    put_out<Number, 2 * kTile>(sums, row, here, scales, layer, column + first, output);
                }
            }
        }
    }

  private:
    // Two tiles of rows with two of columns, from the `first` column of the panel on.
    template <typename Each>
    static void two_by_two(const Each& each, size_t first, size_t step, const Sum* starts, Sum* sums) {
        Tiles::load<0>(starts, 0);
        Tiles::load<1>(starts + 1, 0);
        Tiles::load<2>(starts, 0);
        Tiles::load<3>(starts + 1, 0);
        each(first, [&](const Element* x, const int32_t* weights) {
            Tiles::load<4>(x, step);
            Tiles::load<5>(x + kTile * step / sizeof *x, step);
            Tiles::load<6>(weights, kPanelBytes);
            Tiles::load<7>(weights + kTile, kPanelBytes);
            Tiles::add<0, 4, 6>(x);
            Tiles::add<1, 4, 7>(x);
            Tiles::add<2, 5, 6>(x);
            Tiles::add<3, 5, 7>(x);
        });
        Tiles::store<0>(sums, 2 * sizeof *sums);
        Tiles::store<1>(sums + 1, 2 * sizeof *sums);
        Tiles::store<2>(sums + 2 * kTile, 2 * sizeof *sums);
        Tiles::store<3>(sums + 2 * kTile + 1, 2 * sizeof *sums);
    }

    // One tile of rows with all columns of a panel.
    template <typename Each>
    static void one_by_four(const Each& each, size_t step, const Sum* starts, Sum* sums) {
        Tiles::load<0>(starts, 0);
        Tiles::load<1>(starts + 1, 0);
        Tiles::load<2>(starts + 2, 0);
        Tiles::load<3>(starts + 3, 0);
        each(0, [&](const Element* x, const int32_t* weights) {
            Tiles::load<4>(x, step);
            Tiles::load<5>(weights, kPanelBytes);
            Tiles::load<6>(weights + kTile, kPanelBytes);
            Tiles::load<7>(weights + 2 * kTile, kPanelBytes);
            Tiles::add<0, 4, 5>(x);
            Tiles::add<1, 4, 6>(x);
            Tiles::load<5>(weights + 3 * kTile, kPanelBytes);
            Tiles::add<2, 4, 7>(x);
            Tiles::add<3, 4, 5>(x);
        });
        Tiles::store<0>(sums, 4 * sizeof *sums);
        Tiles::store<1>(sums + 1, 4 * sizeof *sums);
        Tiles::store<2>(sums + 2, 4 * sizeof *sums);
        Tiles::store<3>(sums + 3, 4 * sizeof *sums);
    }
};

// One or two tiles of rows of bfloat16, `step` bytes apart, with two panels of columns: on top of tiles 0 to 3, of which
// each row has two. With two rows four sums grow at a time, as many as the products' latency asks for.
template <bool both>
inline void add_products(
    const uint16_t* rows, size_t step, size_t numbers, const int32_t* panel, const int32_t* next) {
    constexpr size_t tile = kTile * kLanes, row = kLanes * sizeof(int32_t);
    for (size_t i = 0; i < numbers; i += kTile * Bfloat16::kWord, panel += tile, next += tile) {
        Tiles::load<4>(rows + i, step);
        Tiles::load<6>(panel, row);
        Tiles::load<7>(next, row);
        Tiles::add<0, 4, 6>(rows);
        Tiles::add<1, 4, 7>(rows);
        if constexpr (both) {
            Tiles::load<5>(rows + i + kTile * step / sizeof *rows, step);
            Tiles::add<2, 5, 6>(rows);
            Tiles::add<3, 5, 7>(rows);
        }
    }
}

template <bool both>
inline void begin_with(MaskRows mask) {
    const size_t step = static_cast<size_t>(mask.step) * sizeof(float);
    Tiles::load<0>(mask.first, step);
    Tiles::load<1>(mask.first + kTile, step);
    if constexpr (both) {
        const float* below = mask.first + static_cast<ptrdiff_t>(kTile) * mask.step;
        Tiles::load<2>(below, step);
        Tiles::load<3>(below + kTile, step);
    }
}

template <bool both>
inline void begin_with_zeros() {
    Tiles::clear<0>();
    Tiles::clear<1>();
    if constexpr (both) {
        Tiles::clear<2>();
        Tiles::clear<3>();
    }
}

template <bool both>
inline void store_sums(float* to, size_t stride) {
    Tiles::store<0>(to, stride * sizeof *to);
    Tiles::store<1>(to + kTile, stride * sizeof *to);
    if constexpr (both) {
        Tiles::store<2>(to + kTile * stride, stride * sizeof *to);
        Tiles::store<3>(to + kTile * stride + kTile, stride * sizeof *to);
    }
}

constexpr size_t kTileQueries = 2 * kTile;

// One head of up to 16 queries, or of up to 32: `sight` has gone to them.
template <bool both>
inline void attend_tiles(
    const Heads<Bfloat16>& heads, size_t q, size_t queries, size_t head, const Packed& packed, Sight& sight,
    float* scores, uint16_t* chances) {
    const size_t stride = packed.stride(), size = heads.size, words = size / Bfloat16::kWord;
    const size_t first = sight.first() - packed.first, seen = sight.width();
    const uint16_t* query = heads.query + q * heads.stride + head * size;
    const MaskRows mask = sight.rows(head);
    for (size_t start = 0; start < seen; start += 2 * kTile) {
        if (heads.cap > 0 || sight.all_seen(start, 2 * kTile)) {
            begin_with_zeros<both>();
        } else {
            begin_with<both>({mask.first + start, mask.step});
        }
        const int32_t* keys = packed.keys + (first + start) * words;
        add_products<both>(query, heads.stride * sizeof *query, size, keys, keys + packed.key_vector);
        store_sums<both>(scores + start, stride);
    }
    float sums[kTileQueries];
    for (size_t r = 0; r < queries; ++r) {
        if (heads.cap > 0) {
            bend(scores + r * stride, mask.first + static_cast<ptrdiff_t>(r) * mask.step, seen, heads.cap);
        }
        sums[r] = soften<Bfloat16>(scores + r * stride, seen, chances + r * stride);
    }
    const int32_t* values = packed.values + first / Bfloat16::kWord * kLanes;
    for (size_t column = 0; column < size; column += 2 * kTile, values += 2 * packed.value_vector) {
        begin_with_zeros<both>();
        add_products<both>(chances, stride * sizeof *chances, seen, values, values + packed.value_vector);
        store_sums<both>(scores + column, size);
    }
    for (size_t r = 0; r < queries; ++r) {
        const Floats inverse = all(1.0f / sums[r]);
        float* to = heads.to + (q + r) * heads.to_stride + head * size;
        for (size_t i = 0; i < size; i += kLanes) store(to + i, load(scores + r * size + i) * inverse);
    }
}

// Attention with tiles of 16 queries; a head is a multiple of a tile's 32 numbers.
inline void attend_with_tiles(const Heads<Bfloat16>& heads, const Text& text, Scratch& memory) {
    static_assert(kShare % kTileQueries == 0, "tiles of queries are the same in every share");
    static_assert(kTile == kLanes, "a panel is a tile of keys or of columns");
    const Packed packed = pack<Packing::kPanels>(heads, text, 2 * kTile, memory);
    const size_t widest = packed.stride() < heads.size ? heads.size : packed.stride();
    float* scores = memory_of<float>(memory, kScores, kTileQueries * widest);
    auto* chances = memory_of<uint16_t>(memory, kChances, kTileQueries * packed.stride());
    Sight sight(text, packed.first, packed.width, 2 * kTile, kTileQueries, memory);
    const Tiles tiles;
    for (size_t q = heads.first; q < heads.end; q += kTileQueries) {
        const size_t queries = smaller(kTileQueries, heads.end - q);
        sight.move(q, queries);
        const auto attend = queries > kTile ? attend_tiles<true> : attend_tiles<false>;
        for (size_t head = 0; head < heads.count; ++head) {
            attend(heads, q, queries, head, packed, sight, scores, chances);
        }
    }
}

}  // namespace stcompile::STCOMPILE_GENERATION
