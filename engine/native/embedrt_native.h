/* The C door of the native executor and tokenizer. No function throws, keeps a pointer that it was not told to keep, or prints.
 * Functions that can fail return an EMBEDRT_* code and put a message, cut to fit, into `error`. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif
#ifdef __cplusplus
extern "C" {
#endif

#define EMBEDRT_ABI 15

enum { EMBEDRT_OK = 0, EMBEDRT_UNSUPPORTED = 1, EMBEDRT_FAILED = 2 };
enum { EMBEDRT_FLOAT32 = 0, EMBEDRT_INT8 = 1, EMBEDRT_INT32 = 2 };
enum { EMBEDRT_GELU_ERF = 0, EMBEDRT_GELU_TANH = 1, EMBEDRT_RELU = 2, EMBEDRT_SILU = 3, EMBEDRT_QUICK_GELU = 4 };
enum { EMBEDRT_NO_NORM = 0, EMBEDRT_LAYER_NORM = 1, EMBEDRT_RMS_NORM = 2 };
enum { EMBEDRT_POST = 0, EMBEDRT_PRE = 1, EMBEDRT_SANDWICH = 2 };
enum { EMBEDRT_NO_BIAS = 0, EMBEDRT_TABLE = 1, EMBEDRT_SLOPES = 2 };
enum { EMBEDRT_ALL = 0, EMBEDRT_FIRST = 1, EMBEDRT_LAST = 2, EMBEDRT_MEAN = 3 };
enum { EMBEDRT_LARGEST = 0, EMBEDRT_SUM = 1, EMBEDRT_SUM_OF_TWICE = 2 };

/* A weight by name, C-ordered; `data` is kept for as long as the encoder lives. */
typedef struct {
    const char* name;
    const void* data;
    int64_t rows, columns; /* a vector has one row */
    int32_t dtype;
} embedrt_tensor;

/* An encoder's numbers, as embedrt/encoder.py says them; its tensors have the names given there. */
typedef struct {
    int32_t kind;
    float epsilon;
} embedrt_norm;

typedef struct {
    int32_t size, num_positions;
    int32_t pad_position; /* -1: positions count from 0 */
    int32_t has_token_types;
    float scale;
    embedrt_norm norm;
} embedrt_embeddings;

/* Of an encoder of pictures: numbers of a patch (0: it reads tokens), and rows of a picture, the one without pixels that may
 * come first included. */
typedef struct {
    int32_t size, rows;
} embedrt_patches;

typedef struct {
    int32_t num_heads, num_kv_heads, head_size;
    int32_t causal;
    int32_t window; /* -1: none */
    int32_t rotary_interleaved;
    int32_t distance_bias;
    embedrt_norm head_norm;
    double scale;
    const char* rotary; /* NULL: none */
} embedrt_attention;

typedef struct {
    int32_t size, activation, gated;
} embedrt_feed_forward;

typedef struct {
    int32_t weights, norms, attention_is_normed;
    embedrt_norm norm;
    embedrt_feed_forward feed_forward;
    embedrt_attention attention;
} embedrt_block;

typedef struct {
    int32_t hidden_size;
    int32_t max_tokens; /* -1: no limit but that of the positions' table */
    embedrt_embeddings embeddings;
    embedrt_patches patches;
    embedrt_norm final_norm;
    const embedrt_block* blocks;
    int32_t num_blocks;

    int32_t num_threads;       /* of one call, its own thread included */
    int32_t available_threads; /* that can run at once here: calls run side by side as long as they have so many together */
    int32_t bfloat16; /* whether float32 weights of products must run in bfloat16; where they can, they do anyway */
    int32_t first_value_twice; /* whether V of each text's first token has a second row, for what its first one leaves */
    int32_t activation_zero; /* zero point of the rows of an activation that is not gated and not silu, 1 to 127 */
    const char* isa; /* "auto" or a name of embedrt_isa_name */
} embedrt_config;

typedef struct embedrt_encoder embedrt_encoder;

int32_t embedrt_abi(void);

/* Name of the i-th instruction set of this build, best first, or NULL; whether this machine has it; and the kernel that it
 * computes wrongly here, compared with the portable one, to be freed by nobody, or NULL: it is then not taken. */
const char* embedrt_isa_name(int32_t i);
int32_t embedrt_isa_available(int32_t i);
const char* embedrt_isa_fault(int32_t i);

/* Packs the weights for the instruction set; or, if `packed` is not NULL, uses what `embedrt_packed` gave for the same
 * tensors, config, instruction set and build. It must begin at a multiple of 64 bytes and is kept as long as the encoder
 * lives. */
int32_t embedrt_create(const embedrt_config* config, const embedrt_tensor* tensors, int64_t num_tensors,
                       const void* packed, int64_t packed_size, embedrt_encoder** out, char* error,
                       size_t error_size);

/* The packed weights, for as long as the encoder lives. */
const void* embedrt_packed(const embedrt_encoder* encoder, int64_t* size);

/* The name of the instruction set that `isa` ("auto" or a name) means here, or NULL if there is none such. */
const char* embedrt_isa_chosen(const char* isa);

/* Hidden states of `num_texts` texts, text i being ids[offsets[i]] to ids[offsets[i + 1]]: (T, H), or (num_texts, H) where
 * only each text's first or last row is wanted, or the mean of its rows. `keys`, if it is not NULL: of text i only the first keys[i] tokens are seen by
 * its others, at least one. `seconds`, if it is not NULL: the tokens of text i from its seconds[i]-th on have token type 1, and
 * not 0. Several threads may call at once: side by side, at least one and otherwise as many as `available_threads` has
 * room for; the others wait. */
int32_t embedrt_run(embedrt_encoder* encoder, const int32_t* ids, const int32_t* offsets, const int32_t* keys,
                    const int32_t* seconds, int32_t num_texts, int32_t want, float* out, char* error, size_t error_size);

/* As embedrt_run, of an encoder of pictures: `pixels` (num_pictures, rows, size), a row without pixels being zeros; hidden
 * states (num_pictures * rows, H), or (num_pictures, H). */
int32_t embedrt_run_pictures(embedrt_encoder* encoder, const float* pixels, int32_t num_pictures, int32_t want, float* out,
                             char* error, size_t error_size);

/* From now on, calls of the calling thread take half of an encoder's threads (`half` = 1), so that two run side by side, or
 * all of them (0), as they do at first. A row's bits do not depend on it. */
void embedrt_take_half(int32_t half);

const char* embedrt_isa_of(const embedrt_encoder* encoder);

/* Seconds that the callers' own threads spent in each step, of the calls that have ended in this process; returns their
 * number. Waiting is the last. */
int32_t embedrt_profile(embedrt_encoder* encoder, const char** names, double* seconds, int32_t size);

/* Not while a call runs in this process. */
void embedrt_destroy(embedrt_encoder* encoder);

/* The head of a masked language model (words.h): tensors words.transform.weight (H, E) float32 and .bias, words.norm.gamma
 * and .beta, words.decoder.weight (E, V) int8 with .scale, or float32, and .bias. */
typedef struct {
    int32_t hidden_size, size, vocabulary; /* H, E, V */
    int32_t activation;
    embedrt_norm norm;
    int32_t num_threads, available_threads; /* as an encoder's */
    const char* isa;
} embedrt_words_config;

typedef struct embedrt_words embedrt_words;

/* Packs the tensors, which are not kept. */
int32_t embedrt_words_create(const embedrt_words_config* config, const embedrt_tensor* tensors, int64_t num_tensors,
                             embedrt_words** out, char* error, size_t error_size);

/* Of hidden states (T, H) of texts at `offsets`, (num_texts, V): each word's largest logit over a text's tokens, or a sum
 * (words.h). Several threads may call at once. */
int32_t embedrt_words_run(embedrt_words* words, const float* hidden, const int32_t* offsets, int32_t num_texts,
                          int32_t pooling, float* out, char* error, size_t error_size);

/* Not while a call runs in this process. */
void embedrt_words_destroy(embedrt_words* words);

/* Parts by themselves, for tests. */

/* As if one kernel of an instruction set did nothing; before anything else is called in the process. */
int32_t embedrt_probe_break(const char* isa, const char* kernel, char* error, size_t error_size);

/* A pool: `calls` calls of `barriers` barriers each, counted from `first` on; *count: how often a thread came to one. */
int32_t embedrt_probe_pool(int32_t threads, uint32_t first, int32_t calls, int32_t barriers, int64_t* count, char* error,
                           size_t error_size);

/* Lanes: `callers` calls that do not end before `wanted` of them are under way, or 20 s; *most: how many were. */
int32_t embedrt_probe_lanes(int32_t threads, int32_t available, int32_t callers, int32_t wanted, int32_t* most,
                            char* error, size_t error_size);

/* Single kernels, for tests and benchmarks; arrays are C-ordered and whole. */

/* rows8 (zero 128) or rows8_activation (another zero): q (rows, width) without the zero point, scale (rows,). */
int32_t embedrt_kernel_quantize(const char* isa, const float* x, int32_t rows, int32_t width, int32_t zero, int16_t* q,
                                float* scale, char* error, size_t error_size);

/* A layer norm or an RMS norm of each row, in place. */
int32_t embedrt_kernel_norm(const char* isa, int32_t kind, float* x, int32_t rows, int32_t width, const float* gamma,
                            const float* beta, float epsilon, char* error, size_t error_size);

/* Rows x (rows, width) turned in place, each by its own `turn` (rows, 2 * pairs): cosines, then sines. */
int32_t embedrt_kernel_rotate(const char* isa, float* x, int32_t rows, int32_t width, int32_t pairs, int32_t interleaved,
                              const float* turn, char* error, size_t error_size);

/* One product with its epilogue (kernels.h): x (rows, k) is quantized with `zero`, w is (k, n); or with a float32 weight
 * where `scale` is NULL. Of a gate, w has n / 2 columns of the gate and then as many of what it lets through. `repeat` times
 * over the same rows; seconds of the fastest, in *seconds, if it is not NULL. */
int32_t embedrt_kernel_product(const char* isa, const float* x, int32_t rows, int32_t k, int32_t n, int32_t zero,
                               const void* w, const float* scale, const float* bias, const float* restore,
                               int32_t epilogue, int32_t activation, int32_t main, float* out, float* few,
                               int32_t repeat, double* seconds, char* error, size_t error_size);

/* softmax(scale * q k^T + bias) v for query rows [first, last) of `heads` heads that share k and v: q (n, heads, head_size),
 * k, v (n, head_size), out (last - first, heads, head_size). A query sees `before` keys before its own and `after` behind it.
 * bias: (heads, 2 n - 1) for distances from 1 - n on, or NULL. `repeat` and `seconds` as above. */
int32_t embedrt_kernel_attention(const char* isa, const float* q, const float* k, const float* v, int32_t n,
                                 int32_t heads, int32_t head_size, int32_t first, int32_t last, double scale,
                                 int32_t before, int32_t after, const float* bias, float* out, int32_t repeat,
                                 double* seconds, char* error, size_t error_size);

/* A tokenizer of texts (tokenizer/tokenizer.h). Its parts are in the order of the pipeline; what `value` and `data` are, by
 * kind: */
enum {
    EMBEDRT_CHARS_MAP = 0,       /* data: the precompiled map */
    EMBEDRT_BERT_NORMALIZER = 1, /* value: 1 clean_text, 2 handle_chinese_chars, 4 strip_accents and lowercase, added */
    EMBEDRT_NFC = 2,
    EMBEDRT_NFKC = 3,
    EMBEDRT_NMT = 4,
    EMBEDRT_STRIP = 5,           /* value: 1 left, 2 right, added */
    EMBEDRT_COLLAPSE_SPACES = 6, /* data: what stands for two and more */
    EMBEDRT_WHITESPACE_SPLIT = 7,
    EMBEDRT_BERT_SPLIT = 8,
    EMBEDRT_METASPACE = 9,         /* data: the mark */
    EMBEDRT_ADDED_TOKEN = 10,      /* data: found in the text as it is */
    EMBEDRT_NORMALIZED_TOKEN = 11, /* data: found in the normalized text */
    EMBEDRT_SPECIAL_BEFORE = 12,   /* value: id */
    EMBEDRT_SPECIAL_AFTER = 13,    /* value: id */
    EMBEDRT_INSIDE_PREFIX = 14,    /* data: of pieces that do not begin a word */
    EMBEDRT_UNKNOWN_TOKEN = 15,    /* data */
    EMBEDRT_UNIGRAM = 16,          /* value: id of the unknown token */
    EMBEDRT_WORD_PIECE = 17        /* value: characters of the longest word that is read */
};

typedef struct {
    int32_t kind, value;
    const char* data;
    int64_t size;
} embedrt_tokenizer_part;

typedef struct embedrt_tokenizer embedrt_tokenizer;

/* Where the values of "vocab" and "merges" in "model" lie in a tokenizer.json: begin and end of each, four numbers; 0 and 0
 * where there is none. */
int32_t embedrt_tokenizer_spans(const char* json, int64_t size, int64_t* spans, char* error, size_t error_size);

/* Of a vocabulary, which lies from begin to end in a tokenizer.json; keeps none of what it is given. */
int32_t embedrt_tokenizer_create(const char* json, int64_t begin, int64_t end, const embedrt_tokenizer_part* parts,
                                 int64_t num_parts, embedrt_tokenizer** tokenizer, char* error, size_t error_size);
void embedrt_tokenizer_destroy(embedrt_tokenizer* tokenizer);

/* Ids of texts in UTF-8, text i before byte ends[i], one after the other, with special tokens or without; the number of
 * each text's in counts, or -1 where only the tokenizers library can say. Where num_ids is more than capacity, only the
 * first texts' were written. Any number of threads may call. */
int32_t embedrt_tokenize(const embedrt_tokenizer* tokenizer, const char* texts, const int64_t* ends, int64_t num_texts,
                         int32_t special, int32_t* ids, int64_t capacity, int32_t* counts, int64_t* num_ids, char* error,
                         size_t error_size);

/* The same for one text with special tokens: the number of its ids, or -1 where only the tokenizers library can say. */
int64_t embedrt_tokenize_one(const embedrt_tokenizer* tokenizer, const char* text, int64_t size, int32_t* ids, int64_t capacity);

/* What becomes of a text: tokenized with special tokens, run, one row wanted of it, that normalized, its first `dimension`
 * numbers kept, these normalized. What is pointed to must stay as long as a call runs. */
typedef struct {
    embedrt_encoder* encoder;
    const embedrt_tokenizer* tokenizer;
    int32_t max_tokens;
    int32_t num_rows;    /* of the table: ids are below */
    int32_t hidden_size; /* the encoder's */
    int32_t want;        /* not EMBEDRT_ALL */
    int32_t normalize;
    int32_t dimension; /* at most hidden_size */
    int32_t normalize_kept;
} embedrt_text_call;

/* The vector (dimension,) of a text in UTF-8; the number of its tokens. -1 where another way must say what it is or what is
 * wrong: the tokenizer is not certain, there are no tokens, too many or unknown ones, the row is not finite, the run failed.
 * Any number of threads may call, as embedrt_run. */
int64_t embedrt_embed_text(const embedrt_text_call* call, const char* text, int64_t size, float* out);

/* A row (width,) divided by its L2 norm, or by 1e-12 if that is more, in place: as the call above does. */
void embedrt_normalize(float* row, int64_t width);

#ifdef __cplusplus
}
#endif
#if defined(__GNUC__)
#pragma GCC visibility pop
#endif
