// Quantized rows as the AVX2 kernels read them. Included by kernels_avx2.cpp, in its anonymous namespace.
//
// vpmaddubsw multiplies unsigned with signed bytes and adds pairs of products in 16 bits, which two large neighbours
// would saturate: 255 * (127 + 127) > 32767. Whether a row's neighbours do is known when it is quantized, for any
// weights. Rows around 128 are the signed operand: where a pair adds up to 128 at most, 128 * 255 is no more than 32767.
// An activation's rows are the unsigned one: up to 256, -128 * 256 is no less than -32768. What a pair has over that is
// multiplied by itself, so that sums are exact.

// What four elements of a row leave over: four more bytes that meet the same weights.
struct Overflow {
    int32_t four;
    uint8_t remainder[4];
};

// A quantized row begins with this; a byte for each element follows, then the overflows.
struct alignas(16) RowHead {
    int32_t start;      // of a row around 128: -128 times its sum
    int32_t overflows;  // how many
};

class QuantizedRow {
   public:
    static constexpr int VECTORS = 2;

    inline QuantizedRow(void* to, int width, int zero)
        : head_(static_cast<RowHead*>(to)), bytes_(static_cast<uint8_t*>(to) + sizeof(RowHead)),
          overflows_(reinterpret_cast<Overflow*>(bytes_ + width)), next_(overflows_), zero_(zero),
          sum_(_mm_setzero_si128()) {}

    inline void put(int i, const __m256 (&a)[2]) {
        // rint, and saturation to what a byte holds
        __m256i wide = _mm256_packs_epi32(_mm256_cvtps_epi32(a[0]), _mm256_cvtps_epi32(a[1]));
        wide = _mm256_permute4x64_epi64(wide, 0xd8);
        __m128i bytes, over;
        if (zero_ == CENTRE) {
            bytes = _mm_packs_epi16(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
            const __m128i pairs = _mm_maddubs_epi16(_mm_set1_epi8(1), bytes);
            sum_ = _mm_add_epi32(sum_, _mm_madd_epi16(pairs, _mm_set1_epi16(1)));
            const __m128i most = _mm_set1_epi16(128), least = _mm_set1_epi16(-128);
            over = _mm_sub_epi16(pairs, _mm_min_epi16(_mm_max_epi16(pairs, least), most));
        } else {
            wide = _mm256_adds_epi16(wide, _mm256_set1_epi16(static_cast<short>(zero_)));
            bytes = _mm_packus_epi16(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
            const __m128i pairs = _mm_maddubs_epi16(bytes, _mm_set1_epi8(1));
            over = _mm_subs_epu16(pairs, _mm_set1_epi16(256));
        }
        // the pair's second byte leaves it over
        const __m128i remainder = _mm_slli_epi16(over, 8);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(bytes_ + i), _mm_sub_epi8(bytes, remainder));
        if (__builtin_expect(!_mm_testz_si128(remainder, remainder), 0)) keep(i / 4, remainder);
    }

    inline void finish() {
        int32_t lanes[4];
        _mm_storeu_si128(reinterpret_cast<__m128i*>(lanes), sum_);
        head_->start = -128 * (lanes[0] + lanes[1] + lanes[2] + lanes[3]);
        head_->overflows = static_cast<int32_t>(next_ - overflows_);
    }

    // Room for an overflow of every four elements, and to write one more. An odd number of lines, so that equal
    // places of neighbouring rows lie in different sets of the caches.
    static size_t bytes(int width) {
        const auto elements = static_cast<size_t>(width);
        return (sizeof(RowHead) + elements + (elements / 4 + 1) * sizeof(Overflow) + 63) / 64 * 64 | 64;
    }

    static void read(const void* row, int width, int zero, float* out) {
        const auto* head = static_cast<const RowHead*>(row);
        const auto* bytes = static_cast<const uint8_t*>(row) + sizeof(RowHead);
        const bool is_signed = zero == CENTRE;
        const auto number = [=](uint8_t byte) { return is_signed ? static_cast<int8_t>(byte) : int{byte}; };
        for (int i = 0; i < width; i++) out[i] = static_cast<float>(number(bytes[i]) - (is_signed ? 0 : zero));
        const auto* overflow = reinterpret_cast<const Overflow*>(bytes + width);
        for (int e = 0; e < head->overflows; e++, overflow++)
            for (int j = 0; j < 4; j++) out[4 * overflow->four + j] += static_cast<float>(number(overflow->remainder[j]));
    }

   private:
    // Those of four fours that have something left.
    inline void keep(int four, __m128i remainder) {
        int32_t bytes[4];
        _mm_storeu_si128(reinterpret_cast<__m128i*>(bytes), remainder);
        for (int i = 0; i < 4; i++) {
            next_->four = four + i;
            __builtin_memcpy(next_->remainder, bytes + i, sizeof bytes[i]);
            next_ += bytes[i] != 0;
        }
    }

    RowHead* head_;
    uint8_t* bytes_;
    Overflow *overflows_, *next_;
    int zero_;
    __m128i sum_;
};
