// What the C door hands out pointers to.
#pragma once

#include "embedrt_native.h"
#include "encoder.h"
#include "tokenizer/tokenizer.h"

struct embedrt_encoder {
    embedrt::Encoder encoder;
};

struct embedrt_tokenizer {
    embedrt::Tokenizer tokenizer;
};
