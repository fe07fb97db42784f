#include <cstring>
#include <ctime>
#include <exception>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <vector>

#include "bfloat16.h"
#include "embedrt_native.h"
#include "guarded.h"
#include "handles.h"
#include "isa.h"
#include "words.h"

struct embedrt_words {
    embedrt::Words words;
};

namespace {

using namespace embedrt;

const Kernels* at(int32_t i) {
    const auto built = built_kernels();
    return i >= 0 && static_cast<size_t>(i) < built.size() ? built[static_cast<size_t>(i)] : nullptr;
}

void check_widths(std::initializer_list<int32_t> widths) {
    for (int32_t width : widths)
        if (width < 16 || width % 16 != 0) throw std::invalid_argument("widths must be multiples of 16");
}

double now() {
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// Runs `body` `repeat` times; the fastest in *seconds, if it is not null.
template <class Body>
void time_best(int32_t repeat, double* seconds, Body body) {
    double best = 1e30;
    for (int32_t i = 0; i < repeat; i++) {
        const double start = now();
        body();
        const double took = now() - start;
        best = took < best ? took : best;
    }
    if (seconds != nullptr) *seconds = best;
}

}  // namespace

int32_t embedrt_abi(void) { return EMBEDRT_ABI; }

const char* embedrt_isa_name(int32_t i) {
    const Kernels* kernels = at(i);
    return kernels == nullptr ? nullptr : kernels->name;
}

int32_t embedrt_isa_available(int32_t i) {
    const Kernels* kernels = at(i);
    return kernels != nullptr && machine_has(*kernels) ? 1 : 0;
}

const char* embedrt_isa_fault(int32_t i) {
    const Kernels* kernels = at(i);
    if (kernels == nullptr || !machine_has(*kernels)) return nullptr;
    const std::string& fault = fault_of(*kernels);
    return fault.empty() ? nullptr : fault.c_str();
}

const char* embedrt_isa_chosen(const char* isa) {
    try {
        return choose_kernels(isa).name;
    } catch (const std::exception&) {
        return nullptr;
    }
}

int32_t embedrt_create(const embedrt_config* config, const embedrt_tensor* tensors, int64_t num_tensors,
                       const void* packed, int64_t packed_size, embedrt_encoder** out, char* error,
                       size_t error_size) {
    *out = nullptr;
    return guarded(error, error_size, [&] {
        const PackedBefore before{static_cast<const char*>(packed), static_cast<size_t>(packed_size)};
        *out = new embedrt_encoder{{*config, tensors, static_cast<size_t>(num_tensors), before}};
    });
}

const void* embedrt_packed(const embedrt_encoder* encoder, int64_t* size) {
    const PackedBefore packed = encoder->encoder.packed();
    *size = static_cast<int64_t>(packed.size);
    return packed.data;
}

int32_t embedrt_run(embedrt_encoder* encoder, const int32_t* ids, const int32_t* offsets, const int32_t* keys,
                    const int32_t* seconds, int32_t num_texts, int32_t want, float* out, char* error, size_t error_size) {
    const embedrt::Batch batch{.ids = ids, .offsets = offsets, .keys = keys, .seconds = seconds,
                               .num_texts = num_texts, .want = static_cast<Want>(want)};
    return guarded(error, error_size, [&] { encoder->encoder.run(batch, out); });
}

int32_t embedrt_run_pictures(embedrt_encoder* encoder, const float* pixels, int32_t num_pictures, int32_t want, float* out,
                             char* error, size_t error_size) {
    return guarded(error, error_size,
                   [&] { encoder->encoder.run_pictures(pixels, num_pictures, static_cast<Want>(want), out); });
}

void embedrt_take_half(int32_t half) { takes_half = half != 0; }

const char* embedrt_isa_of(const embedrt_encoder* encoder) { return encoder->encoder.kernels().name; }

int32_t embedrt_profile(embedrt_encoder* encoder, const char** names, double* seconds, int32_t size) {
    const Profile profile = encoder->encoder.profile();
    for (int32_t i = 0; i < size && i < static_cast<int32_t>(PART_NAMES.size()); i++) {
        names[i] = PART_NAMES[static_cast<size_t>(i)];
        seconds[i] = profile.seconds[static_cast<size_t>(i)];
    }
    return static_cast<int32_t>(PART_NAMES.size());
}

void embedrt_destroy(embedrt_encoder* encoder) { delete encoder; }

int32_t embedrt_words_create(const embedrt_words_config* config, const embedrt_tensor* tensors, int64_t num_tensors,
                             embedrt_words** out, char* error, size_t error_size) {
    *out = nullptr;
    return guarded(error, error_size,
                   [&] { *out = new embedrt_words{{*config, tensors, static_cast<size_t>(num_tensors)}}; });
}

int32_t embedrt_words_run(embedrt_words* words, const float* hidden, const int32_t* offsets, int32_t num_texts,
                          int32_t pooling, float* out, char* error, size_t error_size) {
    return guarded(error, error_size,
                   [&] { words->words.run(hidden, offsets, num_texts, static_cast<WordPooling>(pooling), out); });
}

void embedrt_words_destroy(embedrt_words* words) { delete words; }

int32_t embedrt_kernel_quantize(const char* isa, const float* x, int32_t rows, int32_t width, int32_t zero, int16_t* q,
                                float* scale, char* error, size_t error_size) {
    return guarded(error, error_size, [&] {
        const Kernels& kernels = choose_kernels(isa);
        check_widths({width});
        Array<char> row(kernels.row_bytes(width));
        std::vector<float> whole(static_cast<size_t>(width));
        for (int32_t r = 0; r < rows; r++) {
            const size_t first = static_cast<size_t>(r) * static_cast<size_t>(width);
            kernels.quantize(x + first, width, zero, row.data(), scale + r);
            kernels.read_row(row.data(), width, zero, whole.data());
            for (size_t i = 0; i < whole.size(); i++) q[first + i] = static_cast<int16_t>(whole[i]);
        }
    });
}

int32_t embedrt_kernel_norm(const char* isa, int32_t kind, float* x, int32_t rows, int32_t width, const float* gamma,
                            const float* beta, float epsilon, char* error, size_t error_size) {
    return guarded(error, error_size, [&] {
        const Kernels& kernels = choose_kernels(isa);
        check_widths({width});
        const auto norm = kind == EMBEDRT_RMS_NORM ? kernels.rms_norm : kernels.layer_norm;
        for (int32_t r = 0; r < rows; r++) {
            float* row = x + static_cast<size_t>(r) * static_cast<size_t>(width);
            norm(row, width, gamma, beta, epsilon, row);
        }
    });
}

int32_t embedrt_kernel_rotate(const char* isa, float* x, int32_t rows, int32_t width, int32_t pairs, int32_t interleaved,
                              const float* turn, char* error, size_t error_size) {
    return guarded(error, error_size, [&] {
        const Kernels& kernels = choose_kernels(isa);
        if (pairs < 1 || 2 * pairs > width) throw std::invalid_argument("the pairs do not fit the row");
        for (int32_t r = 0; r < rows; r++)
            kernels.rotate(x + static_cast<size_t>(r) * static_cast<size_t>(width), pairs, interleaved != 0,
                           turn + static_cast<size_t>(r) * 2 * static_cast<size_t>(pairs));
    });
}

int32_t embedrt_kernel_product(const char* isa, const float* x, int32_t rows, int32_t k, int32_t n, int32_t zero,
                               const void* w, const float* scale, const float* bias, const float* restore,
                               int32_t epilogue, int32_t activation, int32_t main, float* out, float* few,
                               int32_t repeat, double* seconds, char* error, size_t error_size) {
    return guarded(error, error_size, [&] {
        const Kernels& kernels = choose_kernels(isa);
        check_widths({k, n, main});
        Array<char> storage;
        const bool gate = static_cast<Epilogue>(epilogue) == Epilogue::gate;
        if (gate) check_widths({n / 2});
        const Matrix matrix = pack_matrix(kernels, k, n, zero, w, scale, bias, gate, storage);
        const size_t row_bytes = matrix.row_bytes(kernels);
        Array<char> quantized(row_bytes * static_cast<size_t>(rows));
        std::vector<float> scales(static_cast<size_t>(rows));
        for (int32_t r = 0; r < rows; r++) {
            char* row = quantized.data() + static_cast<size_t>(r) * row_bytes;
            const float* from = x + static_cast<size_t>(r) * static_cast<size_t>(k);
            if (matrix.kind == Kind::float32)
                std::memcpy(row, from, row_bytes);
            else
                kernels.quantize(from, k, zero, row, &scales[static_cast<size_t>(r)]);
        }
        Product product;
        product.rows = quantized.data();
        product.row_stride = row_bytes;
        product.row_scale = scales.data();
        product.num_rows = rows;
        product.last_panel = matrix.panels(kernels);
        product.epilogue = static_cast<Epilogue>(epilogue);
        product.activation = static_cast<Activation>(activation);
        product.main = main;
        product.out = out;
        product.out_stride = static_cast<size_t>(main);
        product.few = few;
        product.few_stride = static_cast<size_t>(matrix.n() - main);
        product.restore = restore;
        time_best(repeat, seconds, [&] {
            matrix.kind == Kind::float32 ? kernels.product_f32(matrix.f32, product) : kernels.product_i8(matrix.i8, product);
        });
    });
}

int32_t embedrt_kernel_attention(const char* isa, const float* q, const float* k, const float* v, int32_t n,
                                 int32_t heads, int32_t head_size, int32_t first, int32_t last, double scale,
                                 int32_t before, int32_t after, const float* bias, float* out, int32_t repeat,
                                 double* seconds, char* error, size_t error_size) {
    return guarded(error, error_size, [&] {
        const Kernels& kernels = choose_kernels(isa);
        check_widths({head_size});
        if (n < 1 || first < 0 || first >= last || last > n) throw std::invalid_argument("no such query rows");
        if (heads < 1 || before < 0 || after < 0) throw std::invalid_argument("no heads or no keys");
        const auto d = static_cast<size_t>(head_size), count = static_cast<size_t>(n), bytes = kernels.qkv_bytes();
        const size_t queries = static_cast<size_t>(heads) * d, width = queries + 2 * d;
        const float factor = query_factor(scale);
        Array<char> qkv(count * width * bytes);
        Array<float> scratch(kernels.attention.scratch(Attention::most_keys(n, last - first, before, after), head_size));
        const auto put = [&](size_t i, float x) {
            if (kernels.attention.bfloat16)
                reinterpret_cast<uint16_t*>(qkv.data())[i] = to_bf16(x);
            else
                reinterpret_cast<float*>(qkv.data())[i] = x;
        };
        for (size_t i = 0; i < count; i++) {
            for (size_t c = 0; c < queries; c++) put(i * width + c, q[i * queries + c] * factor);
            for (size_t c = 0; c < d; c++) {
                put(i * width + queries + c, k[i * d + c]);
                put(i * width + queries + d + c, v[i * d + c]);
            }
        }
        const size_t reach = count + Attention::ALIGNED;
        std::vector<float> biases(bias ? static_cast<size_t>(heads) * 2 * reach : 0);
        for (size_t h = 0; bias && h < static_cast<size_t>(heads); h++)
            for (size_t i = 0; i < 2 * count - 1; i++)
                biases[h * 2 * reach + reach + 1 - count + i] = bias[h * (2 * count - 1) + i] * LOG2_E;
        Attention a;
        a.query = qkv.data();
        a.key = qkv.data() + queries * bytes;
        a.value = qkv.data() + (queries + d) * bytes;
        a.stride = width;
        a.num_keys = n;
        a.head_size = head_size;
        a.num_heads = heads;
        a.first_query = first;
        a.last_query = last;
        a.before = before;
        a.after = after;
        a.bias = bias ? biases.data() + reach : nullptr;
        a.bias_stride = 2 * reach;
        a.out = out;
        a.out_stride = queries;
        a.scratch = scratch.data();
        time_best(repeat, seconds, [&] { kernels.attention.run(a); });
    });
}
