// What the operators know of a generation of CPUs, and what its kernels are told.
//
// Nothing here has code. A function that several units compile, each for its own CPU, is one function to the linker,
// which may keep the one that this CPU cannot run: what is compiled for a generation stands in a namespace of its own.

#pragma once

#include <cstddef>
#include <cstdint>

namespace stcompile {

// Weights lie in panels of 64 columns: for each word of the inner axis (four int8, two bfloat16 or one float32), the
// words of the 64 columns beside each other. The last panel is filled up with columns of zeros. All generations read
// this one layout. Hidden and intermediate sizes are multiples of 8, sizes of heads of 16.
constexpr size_t kPanel = 64;
constexpr size_t kSizes = 8, kHeadSizes = 16;
constexpr int kMiddle = 128;  // zero point of levels that serve both signs alike

// What is taken from levels before they are multiplied: ARM64 has no product of unsigned with signed bytes.
#ifdef __aarch64__
constexpr int kTaken = kMiddle;
#else
constexpr int kTaken = 0;
#endif

// Which lanes of a vector: all, or the first eight of sixteen, at the end of what is a multiple of 8 alone.
struct Whole {};
struct Half {};

// One linear layer, y = x W + b; the arrays are the graph's own initializers, all but `offset`.
struct Linear {
    size_t in = 0, out = 0;
    const void* weights = nullptr;    // panels
    const float* bias = nullptr;      // (out)
    const float* scale = nullptr;     // (out): of each column's integers
    const float* smooth = nullptr;    // (in): what the input is multiplied by before it is rounded
    const int32_t* offset = nullptr;  // (out, filled up to whole panels): what is left of the zero point, times the column's sum
    int zero_point = kMiddle;         // level of 0, which leaves 255 less that above it
    float smallest = 1e-12f;          // least scale
    bool pair_safe = false;           // 255 times any two neighbours of a column fit in 16 bits together
};

// Parts that layers are put together of; the first of each is BERT's.

// Where normalizations stand, a a layer's middle and y what it gives:
//   after   a = N1(h + attention(h)),       y = N2(a + feed_forward(a))
//   before  a = h + attention(N1(h)),       y = a + feed_forward(N2(a))
//   around  a = h + N3(attention(N1(h))),   y = a + N4(feed_forward(N2(a)))
enum class Norms { kAfter, kBefore, kAround };
enum class Normalization { kLayer, kRms };
enum class Activation { kGelu, kTanhGelu, kSilu, kRelu };

struct Norm {
    const float *gain = nullptr, *shift = nullptr;
    float epsilon = 0;
};

// How far a token sees, in positions of its text; a number that no text reaches where there is no limit.
constexpr int64_t kUnlimited = int64_t{1} << 40;

struct LayerWeights {
    Linear qkv, out, up, down;  // up: of a gated layer the gate's columns and behind them as many factors
    Norm norm[4];
    Norms norms = Norms::kAfter;
    Normalization normalization = Normalization::kLayer;
    Activation activation = Activation::kGelu;
    bool first_norm = true;  // whether what attention reads is normalized, where norms stand before it
    bool gated = false;
    // (head): of each query's and key's RMSNorm; null where there is none.
    const float *query_gain = nullptr, *key_gain = nullptr;
    float head_epsilon = 0;
    int64_t before = kUnlimited, after = kUnlimited;
    float soft_cap = 0;  // below which scores are bent; 0 where they are not
    // head: numbers of one; heads * head may differ from hidden. Each key head serves heads / key_heads query heads.
    size_t hidden = 0, heads = 0, key_heads = 0, head = 0;
};

// One call of a layer. Tokens are those that the mask keeps, behind each other: `place[i]` is the row of the i-th in
// the padded tensor, `position[i]` its place in its text, and text t has those from start[t] up to start[t + 1].
struct Batch {
    const LayerWeights* weights;
    const float* hidden;
    const size_t *place, *start;
    const int32_t* position;
    const uint8_t* unseen;  // not 0 for tokens that none attends to; null where there are none
    size_t tokens;
    size_t block;  // tokens in one; the last may have fewer
    // What is added to the scores: (biases, bias_heads, sequence, sequence), biases 1 or one a text, bias_heads
    // 1 or as many as there are; null where nothing is.
    const float* bias;
    size_t biases, bias_heads, sequence;
    // Cosines and sines of the angles that pairs of each query's and key's numbers are turned by, (batch, sequence,
    // rotary) as the padded tensor; null where they stay.
    const float *cosines, *sines;
    size_t rotary;
    // Attention's shares: the queries of a text, so many in each, with all query heads of one key head.
    size_t queries, shares;
    // Rows are a cache line longer than what is in them: those of a power of two would fall out of the cache together.
    void* qkv;       // (tokens, (heads + 2 * key_heads) * head), in the numbers of attention
    float* context;  // (tokens, heads * head)
    size_t qkv_stride, context_stride;
    float* to;
    struct Scratch* shared;  // where several threads work on the only block: its memory
};

// Queries in a share are a multiple of this, which is one of every tile's queries.
constexpr size_t kShare = 96;

// Memory of one thread by purpose; it grows to the longest text.
enum Slot {
    kLevels, kScales, kWideLevels, kWide, kMiddleRows, kTurned, kRow,  // of a block of tokens
    kKeys, kValues, kScores, kChances, kMask, kBias,          // of one share of attention
    kQkv, kContext,                                           // of the whole batch
    kSlots
};

struct Scratch {
    void* data[kSlots];
    size_t bytes[kSlots];

    // At least so many bytes, at a multiple of 64; what was in them may be gone. Throws std::bad_alloc.
    void* of(Slot slot, size_t wanted);
    void let_go(Slot slot);
};

// How many tokens may be taken at once, all multiples of `multiple`.
struct Block {
    size_t least, most, multiple;
};

// A stage of one block's way: of each row that goes into or comes out of a layer, or of each panel of its columns.
struct Stage {
    Linear LayerWeights::*layer;
    bool by_rows;
    void (*run)(const Batch&, size_t row_or_panel, Scratch& own);
};

// The three steps of a layer in one number format: of each block of tokens, of each share of each key head of each
// text, and of each block again.
struct Steps {
    Block block;
    size_t attended;  // bytes of one number of queries, keys and values
    void (*project)(const Batch&, size_t block, Scratch&);
    void (*attend)(const Batch&, size_t share, Scratch&);
    void (*finish)(const Batch&, size_t block, Scratch&);
    // The same as `project` and `finish` of the only block, for several threads: one after the other, each for each row
    // of what a product reads or makes, or each panel of its columns. `reserve` comes first: it
    // makes the block's memory, which they share.
    void (*reserve)(const Batch&);
    Stage projecting[3], finishing[7];
};

// What kernels need of a CPU, beside what every x86-64 or ARM64 has; kAvx512 is F, BW, DQ and VL.
enum Feature : uint32_t {
    kAvx2 = 1, kFma = 2, kAvxVnni = 4, kAvx512 = 8, kAvx512Vnni = 16, kAvx512Bf16 = 32, kAmx = 64,
    kDotProduct = 128, kInt8Matrix = 256
};
constexpr uint32_t kNeedsAvx2 = kAvx2 | kFma, kNeedsAvx512 = kNeedsAvx2 | kAvx512 | kAvx512Vnni;

// The kernels of one generation of CPUs; null where they are those of the next narrower one that has them.
struct Generation {
    uint32_t needs;  // features
    const Steps *int8, *bfloat16, *float32;
    // The levels of one row as the input of a layer, and their scale: for tests, which hold generations side by side.
    float (*levels)(const float* row, const Linear& layer, uint8_t* to);
};

}  // namespace stcompile
