// The page's words in each language.

export const WORDS = {
  en: {
    docs: "API", language: "Language", model: "Model", kind: "The texts are", plain: "as they are", query: "queries",
    document: "documents", key: "API key", texts: "Texts, one per line", compare: "Compare", search: "Search",
    search_hint: "What are you looking for?", search_button: "Search the lines above",
    search_note: "The question gets the query prompt, the lines the document prompt, where the model has them.",
    matrix: "Similarity", map: "Map", map_note: "The two directions in which the texts differ most; colours are clusters.",
    tokens: "Tokens", text: "Text", count: "Tokens", pieces: "Pieces", working: "working …",
    none: "Write at least one text.", cut: "cut at {limit}", needs_key: "This server wants an API key.",
    unreachable: "The server does not answer.", done: "{texts} texts, {tokens} tokens, {ms} ms", cluster: "cluster {n}",
    more: "the first {shown} of {all} texts are shown", served: "{id} · {variant} · {dimension} dimensions · up to {max_tokens} tokens",
    rest: "… {n} more",
  },
  ko: {
    docs: "API 문서", language: "언어", model: "모델", kind: "텍스트 종류", plain: "그대로", query: "질의",
    document: "문서", key: "API 키", texts: "텍스트 (한 줄에 하나씩)", compare: "비교하기", search: "검색",
    search_hint: "무엇을 찾으세요?", search_button: "위의 줄에서 찾기",
    search_note: "모델에 프롬프트가 있으면 질문에는 질의 프롬프트를, 각 줄에는 문서 프롬프트를 붙입니다.",
    matrix: "유사도", map: "지도", map_note: "텍스트들이 가장 크게 달라지는 두 방향이며, 색은 군집을 뜻합니다.",
    tokens: "토큰", text: "텍스트", count: "토큰 수", pieces: "조각", working: "계산 중 …",
    none: "텍스트를 한 줄 이상 입력하세요.", cut: "{limit}개에서 잘림", needs_key: "이 서버는 API 키가 필요합니다.",
    unreachable: "서버가 응답하지 않습니다.", done: "텍스트 {texts}개, 토큰 {tokens}개, {ms} ms", cluster: "군집 {n}",
    more: "텍스트 {all}개 중 처음 {shown}개를 표시합니다", served: "{id} · {variant} · {dimension}차원 · 최대 {max_tokens}토큰",
    rest: "… {n}개 더",
  },
};

export const EXAMPLES = [
  "The weather in Seoul is lovely today.", "오늘 서울 날씨가 참 좋네요.", "It will rain in Busan tomorrow.",
  "How do I reset my password?", "비밀번호를 잊어버렸어요. 어떻게 하나요?", "I cannot sign in to my account.",
  "The stock market fell sharply on Monday.", "코스피가 월요일에 크게 하락했다.", "Investors worry about interest rates.",
];
