// A block of tokens on its way through a layer, stage by stage: rows that a product reads, and columns that it makes.

#pragma once

#include "heads.h"
#include "sight.h"

namespace stcompile::STCOMPILE_GENERATION {

// How a format multiplies a block of rows. A generation that has another way says so for its format.
template <typename Number>
struct Product {
    static constexpr Block kRows = kBlock<Number>;
    static size_t stride(size_t in) { return in; }
    static void fill_up(typename Number::Element*, size_t) {}  // a row, from its last number to the next

    template <typename Output>
    static void run(
        const typename Number::Element* x, const float* scales, size_t rows, const Linear& layer, const Output& output,
        Scratch&) {
        multiply<Number>(x, layer.in, scales, rows, layer, output);
    }
};

// Some tokens on their way through the layer: rows of what the next product reads, one after the other, and columns
// of what it makes, some or all. Their memory is a thread's; that of a batch's only block is the caller's.
template <typename Number>
struct Tokens {
    using Element = typename Number::Element;
    using Attended = typename Number::InAttention::Element;
    static constexpr size_t kMost = Product<Number>::kRows.most;

    const Batch& batch;
    const LayerWeights& w;
    size_t first, rows;
    Element* x;
    float *scales, *middle, *grown, *turning;

    Tokens(const Batch& given, size_t block, Scratch& memory)
        : batch(given), w(*given.weights), first(block * given.block),
          rows(smaller(given.block, given.tokens - first)) {
        const size_t read[] = {w.qkv.in, w.out.in, w.up.in, w.down.in};
        size_t widest = 0;
        for (const size_t in : read) widest = widest < in ? in : widest;
        x = memory_of<Element>(memory, kLevels, batch.block * Product<Number>::stride(widest));
        scales = memory_of<float>(memory, kScales, batch.block);
        middle = memory_of<float>(memory, kMiddleRows, batch.block * w.hidden);
        grown = memory_of<float>(memory, kWide, batch.block * w.up.out);
        turning = turns() ? memory_of<float>(memory, kTurned, batch.block * prepared()) : nullptr;
    }

    bool turns() const { return w.query_gain != nullptr || batch.cosines != nullptr; }
    size_t prepared() const { return (w.heads + w.key_heads) * w.head; }  // columns of queries and keys
    size_t place(size_t r) const { return batch.place[first + r]; }
    const float* hidden(size_t r) const { return batch.hidden + place(r) * w.hidden; }
    float* to(size_t r) const { return batch.to + place(r) * w.hidden; }
    float* middle_row(size_t r) const { return middle + r * w.hidden; }
    float* grown_row(size_t r) const { return grown + r * w.up.out; }
    Attended* qkv(size_t r) const { return static_cast<Attended*>(batch.qkv) + (first + r) * batch.qkv_stride; }
    Element* row_of(const Linear& layer, size_t r) const { return x + r * Product<Number>::stride(layer.in); }

    void read_hidden(size_t r, Scratch& own) const {
        if (w.norms != Norms::kAfter && w.first_norm) return take_normal(hidden(r), w.norm[0], w.qkv, r, own);
        take_row(hidden(r), w.qkv, r);
    }

    void make_qkv(size_t column, size_t columns, Scratch& own) const {
        if (turns()) {
            QueriesKeysValues<Attended, kMost> output;
            output.columns = prepared();
            for (size_t r = 0; r < rows; ++r) {
                output.queries_keys[r] = turning + r * output.columns;
                output.all[r] = qkv(r);
            }
            return multiply_by(w.qkv, column, columns, output, own);
        }
        Rows<Attended, kMost> output;
        for (size_t r = 0; r < rows; ++r) {
            output.to[r] = qkv(r);
            output.onto[r] = nullptr;
        }
        multiply_by(w.qkv, column, columns, output, own);
    }

    // Queries and keys, in float32 up to here, as attention reads them.
    void turn(size_t r, Scratch&) const {
        if (!turns()) return;
        Turn turn{nullptr, nullptr, 0};
        const size_t angles = place(r) * batch.rotary;
        if (batch.cosines != nullptr) turn = {batch.cosines + angles, batch.sines + angles, batch.rotary};
        for (size_t head = 0; head < w.heads + w.key_heads; ++head) {
            const float* gain = head < w.heads ? w.query_gain : w.key_gain;
            const size_t at = head * w.head;
            prepare_head(turning + r * prepared() + at, w.head, gain, w.head_epsilon, turn, qkv(r) + at);
        }
    }

    void read_context(size_t r, Scratch&) const {
        take_row(batch.context + (first + r) * batch.context_stride, w.out, r);
    }

    void make_middle(size_t column, size_t columns, Scratch& own) const {
        Rows<float, kMost> output;
        for (size_t r = 0; r < rows; ++r) {
            output.to[r] = middle_row(r);
            output.onto[r] = w.norms == Norms::kAround ? nullptr : hidden(r);
        }
        multiply_by(w.out, column, columns, output, own);
    }

    void read_middle(size_t r, Scratch& own) const {
        float* row = middle_row(r);
        if (w.norms == Norms::kAround) add_normal(hidden(r), w.norm[2], row);
        if (w.norms != Norms::kAfter) return take_normal(row, w.norm[1], w.up, r, own);
        normalize(w.norm[0], row);
        take_row(row, w.up, r);
    }

    void grow(size_t column, size_t columns, Scratch& own) const {
        Rows<float, kMost> output;
        for (size_t r = 0; r < rows; ++r) {
            output.to[r] = grown_row(r);
            output.onto[r] = nullptr;
        }
        multiply_by(w.up, column, columns, output, own);
    }

    void read_grown(size_t r, Scratch&) const {
        Element* made = row_of(w.down, r);
        scales[r] = take_activated<Number>(grown_row(r), w.activation, w.gated, w.down, made);
        Product<Number>::fill_up(made, w.down.in);
    }

    void make_output(size_t column, size_t columns, Scratch& own) const {
        Rows<float, kMost> output;
        for (size_t r = 0; r < rows; ++r) {
            output.to[r] = to(r);
            output.onto[r] = w.norms == Norms::kAround ? nullptr : middle_row(r);
        }
        multiply_by(w.down, column, columns, output, own);
    }

    void end(size_t r, Scratch&) const {
        if (w.norms == Norms::kAround) add_normal(middle_row(r), w.norm[3], to(r));
        if (w.norms == Norms::kAfter) normalize(w.norm[1], to(r));
    }

    // Some columns of a product of all rows, from a panel's first on.
    template <typename Output>
    void multiply_by(
        const Linear& layer, size_t column, size_t columns, const Output& output, Scratch& own) const {
        Linear part = layer;
        part.out = smaller(columns, layer.out - column);
        part.weights = static_cast<const int32_t*>(layer.weights) + column * (layer.in / Number::kWord);
        part.bias += column;
        if (part.scale != nullptr) part.scale += column;
        if (part.offset != nullptr) part.offset += column;
        Product<Number>::run(x, scales, rows, part, From<Output>{output, column}, own);
    }

    // A row as the input of a layer, and its norm.
    void take_row(const float* row, const Linear& layer, size_t r) const {
        scales[r] = take<Number>(row, layer, row_of(layer, r));
        Product<Number>::fill_up(row_of(layer, r), layer.in);
    }
    void take_normal(const float* row, const Norm& norm, const Linear& layer, size_t r, Scratch& own) const {
        const Normal made(row, w.hidden, norm, w.normalization);
        float* normal = memory_of<float>(own, kRow, w.hidden);
        scales[r] = take_made<Number>(
            normal, layer, row_of(layer, r), [&](size_t i, auto lanes) { return made.at(i, lanes); });
        Product<Number>::fill_up(row_of(layer, r), layer.in);
    }

    // A row's norm in its place, and the same on top of another row.
    void normalize(const Norm& norm, float* row) const {
        const Normal made(row, w.hidden, norm, w.normalization);
        each_vector(w.hidden, [&](size_t i, auto lanes) { store(row + i, made.at(i, lanes), lanes); });
    }
    void add_normal(const float* onto, const Norm& norm, float* row) const {
        const Normal made(row, w.hidden, norm, w.normalization);
        each_vector(w.hidden, [&](size_t i, auto lanes) {
            store(row + i, made.at(i, lanes) + load(onto + i, lanes), lanes);
        });
    }
};

}  // namespace stcompile::STCOMPILE_GENERATION
