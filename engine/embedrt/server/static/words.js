// The page's words in each language.

export const WORDS = {
  en: {
    docs: "API", language: "Language", model: "Model", kind: "The texts are", plain: "as they are", query: "queries",
    document: "documents", key: "API key", texts: "Texts, one per line", compare: "Compare", search: "Search",
    search_hint: "What are you looking for?", search_button: "Search the lines above",
    search_note: "The question gets the query prompt, the lines the document prompt, where the model has them. #: the line above, and how far it moved.",
    documents: "Documents to rank, one per line", rerank: "Rerank", rerank_button: "Rank the lines above",
    rerank_note: "The model reads the query together with each line. #: the line above, and how far it moved.",
    was_line: "line {n}", moved_up: "moved up by {n}", moved_down: "moved down by {n}", not_moved: "where it was",
    no_query: "Write a query, and at least one line.", cut_pairs: "{n} of {all} lines were cut: with the query they have more than {limit} tokens.",
    copy_ranking: "Copy the ranking", save_ranking: "Ranking as CSV",
    matrix: "Similarity", map: "Map", map_note: "The two directions in which the texts differ most, by one scale; colours are clusters of all directions.",
    share: "They hold {percent} % of the differences.", scale_note: "Colours run from the least to the most similar pair of different texts.",
    foreign: "{n} of {all} texts are mostly unknown pieces or single letters to this model: it was hardly trained on their language, and what it says of them means little.",
    tokens: "Tokens", text: "Text", count: "Tokens", pieces: "Pieces", working: "working …",
    none: "Write at least one text.", cut: "cut at {limit}", needs_key: "This server wants an API key.",
    unreachable: "The server does not answer.", done: "{texts} texts, {tokens} tokens, {ms} ms", cluster: "cluster {n}",
    more: "the first {shown} of {all} texts are shown", served: "{id} · {variant} · {dimension} dimensions · up to {max_tokens} tokens", served_ranking: "{id} · {variant} · reranker · up to {max_tokens} tokens",
    rest: "… {n} more", dimensions: "Dimensions", all_dimensions: "all {n}", second: "Beside", no_second: "no other model", no_view: "This page shows vectors of texts, rankings and labels, and {names} gives none of them; /docs has what this server answers",
    labelled: "Texts, one per line; the two texts of a pair with || or a tab between them", classify: "Classify", labels: "Labels",
    labels_note: "Each line's labels, best first; its scores add up to 1.", bad_pair: "Line {n} has more than two parts between || or tabs: a text has one, a pair two.",
    served_labels: "{id} · {variant} · classifier of {count} labels · up to {max_tokens} tokens", save_labels: "Labels as CSV",
    cut_labels: "{n} of {all} lines were cut: they have more than {limit} tokens.",
    beside: "Side by side", agree: "Similarities of all pairs are ranked alike to {rho} (Spearman); the nearest other text is the same for {same} of {all} texts.",
    agree_more: "With three texts and more it is said how far the two agree.", beside_range: "{low} to {high}, {ms} ms",
    upload: "Open a file …", time: "Where the time went", time_note: "{ms} ms in all, as the browser saw it, in {requests} request(s) of {tokens} tokens.",
    phase_parse: "parsing", phase_tokenize: "tokenizing", phase_queue: "queue", phase_compute: "model", phase_write: "writing",
    phase_other: "server, other", phase_network: "network and browser", code: "The last call, as code", code_more: "{n} more texts are left out.",
    copy: "Copy", copied: "Copied", not_copied: "Not allowed", copy_matrix: "Copy the table", save_matrix: "Similarities as CSV", save_vectors: "Vectors as JSON lines",
    progress: "{done} of {all} texts …", bad_line: "Line {n} of {file} has no text: JSON lines need a string, or a field text, content or sentence.",
    too_many_lines: "The first {shown} of {all} lines were taken.",
    pictures: "Pictures", pictures_note: "Drop pictures of your own here, and find them by words. They are sent to this server only, which keeps none.",
    choose_pictures: "Choose pictures …", picture_hint: "What is to be seen?", picture_button: "Find pictures",
    no_pictures: "Choose pictures first, and write what you look for.", unreadable: "{file} cannot be read.",
  },
  ko: {
    docs: "API 문서", language: "언어", model: "모델", kind: "텍스트 종류", plain: "그대로", query: "질의",
    document: "문서", key: "API 키", texts: "텍스트 (한 줄에 하나씩)", compare: "비교하기", search: "검색",
    search_hint: "무엇을 찾으세요?", search_button: "위의 줄에서 찾기",
    search_note: "모델에 프롬프트가 있으면 질문에는 질의 프롬프트를, 각 줄에는 문서 프롬프트를 붙입니다. #은 위에서의 줄 번호와 옮겨 간 칸수입니다.",
    documents: "순위를 매길 문서 (한 줄에 하나씩)", rerank: "재순위", rerank_button: "위의 줄 순위 매기기",
    rerank_note: "모델이 질의와 각 줄을 함께 읽고 점수를 매깁니다. #은 위에서의 줄 번호와 옮겨 간 칸수입니다.",
    was_line: "{n}번째 줄", moved_up: "{n}칸 위로", moved_down: "{n}칸 아래로", not_moved: "제자리",
    no_query: "질의와 문서를 한 줄 이상 입력하세요.", cut_pairs: "{all}줄 중 {n}줄은 질의와 합쳐 {limit}토큰이 넘어 잘렸습니다.",
    copy_ranking: "순위 복사", save_ranking: "순위 CSV",
    matrix: "유사도", map: "지도", map_note: "텍스트들이 가장 크게 달라지는 두 방향을 같은 축척으로 그렸습니다. 색은 모든 방향에서 본 군집입니다.",
    share: "전체 차이의 {percent} %를 담고 있습니다.", scale_note: "색은 서로 다른 텍스트 쌍 중 가장 먼 것부터 가장 가까운 것까지입니다.",
    foreign: "텍스트 {all}개 중 {n}개는 이 모델에게 대부분 모르는 조각이거나 낱글자입니다. 그 언어를 거의 학습하지 않았으므로 결과에 큰 의미가 없습니다.",
    tokens: "토큰", text: "텍스트", count: "토큰 수", pieces: "조각", working: "계산 중 …",
    none: "텍스트를 한 줄 이상 입력하세요.", cut: "{limit}개에서 잘림", needs_key: "이 서버는 API 키가 필요합니다.",
    unreachable: "서버가 응답하지 않습니다.", done: "텍스트 {texts}개, 토큰 {tokens}개, {ms} ms", cluster: "군집 {n}",
    more: "텍스트 {all}개 중 처음 {shown}개를 표시합니다", served: "{id} · {variant} · {dimension}차원 · 최대 {max_tokens}토큰", served_ranking: "{id} · {variant} · 리랭커 · 최대 {max_tokens}토큰",
    rest: "… {n}개 더", dimensions: "차원", all_dimensions: "전체 {n}", second: "함께 비교", no_second: "다른 모델 없음", no_view: "이 화면은 텍스트 벡터, 순위, 레이블을 보여 주는데 {names} 모델은 그중 어느 것도 만들지 않습니다. 이 서버의 기능은 /docs에 있습니다",
    labelled: "텍스트 (한 줄에 하나씩, 문장 쌍은 사이에 || 또는 탭)", classify: "분류하기", labels: "레이블",
    labels_note: "줄마다 점수가 높은 레이블부터 보여 줍니다. 한 줄의 점수를 모두 더하면 1입니다.", bad_pair: "{n}번째 줄은 || 나 탭으로 나뉜 부분이 둘보다 많습니다. 텍스트는 하나, 쌍은 둘이어야 합니다.",
    served_labels: "{id} · {variant} · 레이블 {count}개 분류기 · 최대 {max_tokens}토큰", save_labels: "레이블 CSV",
    cut_labels: "{all}줄 중 {n}줄은 {limit}토큰이 넘어 잘렸습니다.",
    beside: "나란히 보기", agree: "모든 쌍의 유사도 순위가 {rho}만큼 일치합니다(스피어만). 가장 가까운 텍스트는 {all}개 중 {same}개가 같습니다.",
    agree_more: "텍스트가 세 개 이상이면 두 모델이 얼마나 일치하는지 보여 줍니다.", beside_range: "{low}–{high}, {ms} ms",
    upload: "파일 열기 …", time: "시간이 쓰인 곳", time_note: "브라우저에서 잰 시간은 모두 {ms} ms, 요청 {requests}개, 토큰 {tokens}개입니다.",
    phase_parse: "해석", phase_tokenize: "토큰화", phase_queue: "대기", phase_compute: "모델", phase_write: "쓰기",
    phase_other: "서버 기타", phase_network: "네트워크와 브라우저", code: "마지막 호출을 코드로", code_more: "텍스트 {n}개는 줄였습니다.",
    copy: "복사", copied: "복사됨", not_copied: "복사할 수 없음", copy_matrix: "표 복사", save_matrix: "유사도 CSV", save_vectors: "벡터 JSON lines",
    progress: "텍스트 {all}개 중 {done}개 …", bad_line: "{file}의 {n}번째 줄에 텍스트가 없습니다. JSON lines에는 문자열이나 text, content, sentence 필드가 필요합니다.",
    too_many_lines: "전체 {all}줄 중 처음 {shown}줄만 가져왔습니다.",
    pictures: "사진", pictures_note: "가지고 있는 사진을 여기에 끌어다 놓고 말로 찾아 보세요. 사진은 이 서버로만 보내며 서버는 저장하지 않습니다.",
    choose_pictures: "사진 고르기 …", picture_hint: "무엇이 보이는 사진인가요?", picture_button: "사진 찾기",
    no_pictures: "먼저 사진을 고르고 찾을 것을 입력하세요.", unreadable: "{file} 파일을 읽을 수 없습니다.",
  },
};

let language = "en";

/** Speak this language from now on. */
export function setLanguage(name) {
  language = name;
  return name;
}

/** A word or sentence of the page, with the values for its {places}. */
export function word(name, values = {}) {
  return (WORDS[language][name] ?? name).replace(/\{(\w+)\}/g, (_, key) => values[key]);
}

// A sentence that tells by its tokens whether a model was made for Korean.
export const PROBE = "오늘 서울 날씨가 참 좋네요.";

/** What is looked for among the pictures of the example. */
export const SCENE = { en: "the sun over the sea", ko: "바다 위의 해" };

/** By what a model does with texts, and whether it knows Korean. A reranker's are ones that share words and no meaning; a
 * classifier's are pairs where its labels tell that it compares. */
export const EXAMPLES = {
  vectors: {
    mixed: {
      texts: [
        "The weather in Seoul is lovely today.", PROBE, "It will rain in Busan tomorrow.",
        "How do I reset my password?", "비밀번호를 잊어버렸어요. 어떻게 하나요?", "I cannot sign in to my account.",
        "The stock market fell sharply on Monday.", "코스피가 월요일에 크게 하락했다.", "Investors worry about interest rates.",
      ],
      queries: { en: "I forgot how to log in", ko: "로그인이 안 돼요" },
    },
    english: {
      texts: [
        "The weather in Seoul is lovely today.", "It is sunny outside this morning.", "It will rain in Busan tomorrow.",
        "How do I reset my password?", "I forgot the code for my login.", "I cannot sign in to my account.",
        "The stock market fell sharply on Monday.", "Shares lost a tenth of their value.", "Investors worry about interest rates.",
      ],
      queries: { en: "How can I log in again?" },
    },
  },
  scores: {
    mixed: {
      texts: [
        "Money is sent abroad from the app within a minute.", "휴대전화 뒷면은 유리로 되어 있습니다.",
        "환불은 영업일 기준 닷새 안에 결제한 카드로 들어옵니다.", "Orders over fifty euros are delivered free of charge.",
        "A refund is paid within five days, to the card that was used.", "돈을 아끼려면 정기권을 사는 것이 좋습니다.",
        "To return an article, send it with its receipt within thirty days.", "매장은 공휴일에 문을 닫습니다.",
      ],
      queries: { en: "How do I get my money back?", ko: "산 물건을 돌려주고 돈을 받으려면 어떻게 하나요?" },
    },
    english: {
      texts: [
        "Money is sent abroad from the app within a minute.", "The back of the phone is made of glass.",
        "Our shops are closed on public holidays.", "Orders over fifty euros are delivered free of charge.",
        "A refund is paid within five days, to the card that was used.", "A season ticket saves a lot of money.",
        "To return an article, send it with its receipt within thirty days.", "How to get from the airport to the city and back.",
      ],
      queries: { en: "How do I get my money back?" },
    },
  },
  labels: {
    mixed: {
      texts: [
        "The parcel came a day early, and everything was in it.", "배송이 너무 늦고 상자도 찢어져 있었어요.",
        "I am still waiting for an answer.", "직원이 친절해서 다시 오고 싶습니다.", "The meeting is on Tuesday at three.",
      ],
      queries: {},
    },
    english: {
      texts: [
        "The parcel came a day early, and everything was in it.", "The box was torn, and it came far too late.",
        "I am still waiting for an answer.", "The staff were kind, and I will come again.", "The meeting is on Tuesday at three.",
      ],
      queries: {},
    },
  },
  pairs: {
    mixed: {
      texts: [
        "A man plays the guitar on a stage. || Somebody makes music.", "A man plays the guitar on a stage. || Nobody plays an instrument.",
        "아이들이 공원에서 공을 차고 있다. || 아이들이 밖에서 놀고 있다.", "아이들이 공원에서 공을 차고 있다. || 아이들은 모두 자고 있다.",
        "The shop opens at nine. || The shop sells bread.",
      ],
      queries: {},
    },
    english: {
      texts: [
        "A man plays the guitar on a stage. || Somebody makes music.", "A man plays the guitar on a stage. || Nobody plays an instrument.",
        "Children kick a ball in the park. || Children play outside.", "Children kick a ball in the park. || All the children are asleep.",
        "The shop opens at nine. || The shop sells bread.",
      ],
      queries: {},
    },
  },
};
