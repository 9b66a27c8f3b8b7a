// The few functions of ONNX Runtime's C interface that a custom operator needs, by their place in its table.
//
// ONNX Runtime only ever appends to that table, so places hold for every release from the version asked for on. Its own
// header is no part of its Python package, and declares eight thousand lines of what is not used here.

#pragma once

#include <cstddef>
#include <cstdint>

namespace ort {

struct Status;
struct SessionOptions;
struct Domain;
struct KernelInfo;
struct KernelContext;
struct Value;
struct ShapeInfo;

// The first release of the table that holds everything below: ONNX Runtime 1.17.
constexpr uint32_t kApiVersion = 17;

enum ElementType { kUndefined = 0, kFloat = 1, kUint8 = 2, kInt8 = 3, kInt64 = 7, kBfloat16 = 16 };

constexpr int kRequired = 0, kOptional = 1;

struct Api {
    void* table[288];

    template <int place, typename Returned, typename... Arguments>
    Returned call(Arguments... arguments) const {
        return reinterpret_cast<Returned (*)(Arguments...)>(table[place])(arguments...);
    }
    Status* error(const char* message) const { return call<0, Status*>(1, message); }
    const char* message(const Status* status) const { return call<2, const char*>(status); }
    Status* new_domain(const char* name, Domain** out) const { return call<26, Status*>(name, out); }
    Status* add_op(Domain* domain, const void* op) const { return call<27, Status*>(domain, op); }
    Status* add_domain(SessionOptions* options, Domain* domain) const { return call<28, Status*>(options, domain); }
    Status* data(Value* value, void** out) const { return call<51, Status*>(value, out); }
    Status* rank(const ShapeInfo* info, size_t* out) const { return call<61, Status*>(info, out); }
    Status* dims(const ShapeInfo* info, int64_t* out, size_t count) const {
        return call<62, Status*>(info, out, count);
    }
    Status* shape_info(const Value* value, ShapeInfo** out) const { return call<65, Status*>(value, out); }
    Status* attribute(const KernelInfo* info, const char* name, float* out) const {
        return call<85, Status*>(info, name, out);
    }
    Status* attribute(const KernelInfo* info, const char* name, int64_t* out) const {
        return call<86, Status*>(info, name, out);
    }
    // Without a place to write to, how many bytes it takes with the zero behind it.
    Status* attribute(const KernelInfo* info, const char* name, char* out, size_t* size) const {
        return call<87, Status*>(info, name, out, size);
    }
    Status* input_count(const KernelContext* context, size_t* out) const { return call<88, Status*>(context, out); }
    Status* input(const KernelContext* context, size_t index, const Value** out) const {
        return call<90, Status*>(context, index, out);
    }
    Status* output(KernelContext* context, size_t index, const int64_t* dims, size_t rank, Value** out) const {
        return call<91, Status*>(context, index, dims, rank, out);
    }
    void release(Status* status) const { call<93, void>(status); }
    void release(ShapeInfo* info) const { call<99, void>(info); }
    Status* input_count(const KernelInfo* info, size_t* out) const { return call<230, Status*>(info, out); }
    Status* input_name(const KernelInfo* info, size_t index, char* out, size_t* size) const {
        return call<232, Status*>(info, index, out, size);
    }
    Status* constant_input(const KernelInfo* info, size_t index, int* is_constant, const Value** out) const {
        return call<249, Status*>(info, index, is_constant, out);
    }
    Status* parallel_for(
        const KernelContext* context, void (*run)(void*, size_t), size_t total, size_t batches, void* data) const {
        return call<274, Status*>(context, run, total, batches, data);
    }
};

struct ApiBase {
    const Api* (*get)(uint32_t version);
    const char* (*version)();
};

// One operator, as ONNX Runtime reads it at interface version 17; what is null here is optional there.
struct CustomOp {
    uint32_t version;
    void* (*create)(const CustomOp*, const Api*, const KernelInfo*);
    const char* (*name)(const CustomOp*);
    const char* (*provider)(const CustomOp*);
    ElementType (*input_type)(const CustomOp*, size_t);
    size_t (*input_count)(const CustomOp*);
    ElementType (*output_type)(const CustomOp*, size_t);
    size_t (*output_count)(const CustomOp*);
    void (*compute)(void*, KernelContext*);
    void (*destroy)(void*);
    int (*input_characteristic)(const CustomOp*, size_t);
    int (*output_characteristic)(const CustomOp*, size_t);
    int (*input_memory)(const CustomOp*, size_t);
    int (*variadic_input_minimum)(const CustomOp*);
    int (*variadic_input_homogeneous)(const CustomOp*);
    int (*variadic_output_minimum)(const CustomOp*);
    int (*variadic_output_homogeneous)(const CustomOp*);
    Status* (*create_checked)(const CustomOp*, const Api*, const KernelInfo*, void**);
    Status* (*compute_checked)(void*, KernelContext*);
    Status* (*infer_shape)(const CustomOp*, void*);
    int (*start_version)(const CustomOp*);
    int (*end_version)(const CustomOp*);
};

}  // namespace ort
