//! Requests and responses.

use crate::document::{Bytes, ExtractOptions, ExtractedDocument};
pub use crate::failure::{Failure, FailureKind};
use crate::remote::RemoteServer;
pub use crate::status::{
    Device, IndexProgress, LoadedModel, ModelMemory, ModelProgress, PerplexityChange, QuantizationReport, ServerStatus,
    StoredModel, TensorReport, Waiter,
};
use serde::{Deserialize, Serialize};

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ModelKind {
    Embed,
    Rerank,
    Generate,
}

impl ModelKind {
    /// The word that SQL uses for it.
    pub fn as_str(self) -> &'static str {
        match self {
            ModelKind::Embed => "embed",
            ModelKind::Rerank => "rerank",
            ModelKind::Generate => "generate",
        }
    }
}

impl std::str::FromStr for ModelKind {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        match word {
            "embed" => Ok(ModelKind::Embed),
            "rerank" => Ok(ModelKind::Rerank),
            "generate" => Ok(ModelKind::Generate),
            _ => Err(()),
        }
    }
}

/// One file of a model and what it must contain.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ModelFile {
    /// Path relative to the model's folder, with `/` between components; the file's own name for a single GGUF.
    pub name: String,
    /// Lower-case hexadecimal SHA-256 of the contents.
    pub sha256: String,
}

/// A registered model: enough for the server to find, verify and load it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ModelRef {
    /// Registered name; the server keeps one copy per name and set of files.
    pub name: String,
    pub kind: ModelKind,
    /// Absolute path of the model's folder, or of a single GGUF file.
    pub path: String,
    /// Files that must be present with exactly these contents.
    pub files: Vec<ModelFile>,
    /// Options of the registration, as a JSON object.
    pub options_json: String,
    /// For an adapter, whose folder `path` is: the model that it changes.
    pub base: Option<Box<ModelRef>>,
    /// For a model that runs elsewhere, which has no files: where.
    pub remote: Option<Box<RemoteServer>>,
}

/// What the headers of a model say; the answer to [`Request::Inspect`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    pub files: Vec<ModelFile>,
    /// Architecture as the model names it: `bert`, `llama`.
    pub architecture: String,
    /// Output dimensions of an embedding model; 0 for other models.
    pub dimensions: u32,
    /// Longest input of an embedding model, longest pair of a reranking model, context length of a generation model.
    pub max_tokens: u32,
    pub parameters: u64,
    /// Weights on disk.
    pub size_bytes: u64,
    /// Main element type of the weights: `F32`, `Q4_1`.
    pub quantization: String,
    /// Bytes of each of `files`.
    pub file_bytes: Vec<u64>,
    /// As the model card or the header names it: `apache-2.0`.
    pub license: Option<String>,
}

/// A model to be downloaded from a hub.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DownloadOrder {
    /// Address of the hub.
    pub endpoint: String,
    /// A file with the token for it; only the server reads it.
    pub token_file: Option<String>,
    /// `owner/name`
    pub repo: String,
    /// Branch, tag or commit.
    pub revision: String,
    /// Patterns of the wanted files; empty for what a model needs.
    pub patterns: Vec<String>,
    /// Found out from the files if it is not given.
    pub kind: Option<ModelKind>,
    /// Options that the model will be registered with.
    pub options_json: String,
    /// Given for an adapter.
    pub base: Option<Box<ModelRef>>,
    /// The most that all files together may have.
    pub max_bytes: u64,
}

/// What has become of a file of a registered model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileCheck {
    pub name: String,
    /// Lower-case hexadecimal SHA-256 of its contents; `None` when it cannot be read.
    pub found_sha256: Option<String>,
    /// Why it cannot be read.
    pub problem: Option<String>,
}

/// Whether a text is searched for or searched in. Some models put different instructions before the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Purpose {
    Query,
    Passage,
}

/// Which requests go first when the server has more to do than it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lane {
    /// Somebody waits for the answer.
    Interactive,
    /// Index builds and other large work; runs when no interactive request is waiting.
    Bulk,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    System,
    User,
    Assistant,
}

impl Role {
    /// The word that chat templates use for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

/// One turn of a conversation. `content` is data: control tokens spelled out in it are tokenised as ordinary text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    pub role: Role,
    pub content: String,
}

/// Longest JSON schema.
pub const MAX_SCHEMA_BYTES: usize = 1 << 20;

/// How to choose the next token and when to stop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GenerateParams {
    /// Most tokens to produce; at least 1.
    pub max_tokens: u32,
    /// 0 chooses the most probable token always.
    pub temperature: f32,
    /// Keep the smallest set of tokens whose probabilities reach this; 1 keeps all.
    pub top_p: f32,
    /// Keep this many most probable tokens; 0 keeps all.
    pub top_k: u32,
    /// Divides (or multiplies) the logit of every token seen in the last tokens; 1 does nothing.
    pub repeat_penalty: f32,
    /// Seed of the random choice; the same seed and prompt give the same text.
    pub seed: u64,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// Leave out a last sentence that `max_tokens` cuts, unless there is no other.
    pub whole_sentences: bool,
    /// A JSON schema that the answer must satisfy, of at most [`MAX_SCHEMA_BYTES`].
    pub json_schema: Option<String>,
}

/// On whose behalf PostgreSQL asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// Object id of the role that the session belongs to.
    pub role: u32,
    /// Requests that the role may have unanswered at once, this one included; 0 for any number.
    pub max_requests: u32,
}

/// Token ids of one text, with the byte range of the text that each token stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenizedText {
    pub ids: Vec<u32>,
    /// Byte offset in the text where token i starts. Special tokens have an empty range.
    pub starts: Vec<u32>,
    /// Byte offset in the text where token i ends.
    pub ends: Vec<u32>,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FinishReason {
    /// The model ended its turn.
    EndOfTurn,
    /// A stop text was reached.
    Stop,
    /// `max_tokens` were produced.
    Length,
}

impl FinishReason {
    pub fn as_str(self) -> &'static str {
        match self {
            FinishReason::EndOfTurn => "end_of_turn",
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
        }
    }
}

/// What a generation cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    pub prompt_tokens: u32,
    pub completion_tokens: u32,
    /// Waiting in the queue, in milliseconds.
    pub queue_ms: f32,
    pub prefill_ms: f32,
    pub decode_ms: f32,
}

/// A client's wish. Every request but [`Request::Retire`] gets exactly one final response.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// First message of every connection.
    Hello {
        protocol: u32,
        build: u64,
    },
    /// Reads the headers of the model at `path` and hashes its files, without loading it; checks the options that it is to
    /// be registered with.
    Inspect {
        kind: ModelKind,
        path: String,
        options_json: String,
        /// Given for an adapter.
        base: Option<Box<ModelRef>>,
    },
    /// Checks the options of a model that `server` runs. Asks it for a vector, where the options do not tell how long one is.
    InspectRemote {
        kind: ModelKind,
        server: RemoteServer,
        options_json: String,
        caller: Caller,
    },
    /// Loads the model now, if it is not loaded.
    Load {
        model: ModelRef,
    },
    /// Forgets every copy of the model with this name, once running requests are done with it.
    Unload {
        name: String,
    },
    Status,
    /// Asks what there is to compute with.
    Devices,
    /// Token ids and offsets of each text. `add_special` adds what the model puts around a text (`[CLS]`, `[SEP]`).
    Tokenize {
        model: ModelRef,
        texts: Vec<String>,
        add_special: bool,
    },
    Detokenize {
        model: ModelRef,
        ids: Vec<u32>,
    },
    /// One vector per text, in order. Texts longer than the model takes are truncated as the model's config says.
    Embed {
        model: ModelRef,
        texts: Vec<String>,
        purpose: Purpose,
        lane: Lane,
        caller: Caller,
    },
    /// The last hidden state of each token, special tokens included and without the model's instructions; truncated as for
    /// [`Request::Embed`].
    EmbedTokens {
        model: ModelRef,
        text: String,
        caller: Caller,
    },
    /// How well each passage answers the query, in order. Pairs longer than the model takes are cut at the longer text.
    Rerank {
        model: ModelRef,
        query: String,
        passages: Vec<String>,
        lane: Lane,
        caller: Caller,
    },
    /// Renders the model's chat template over `messages` and generates the assistant's turn.
    /// With `stream`, [`Response::Token`] frames precede the final [`Response::Generated`].
    Generate {
        model: ModelRef,
        messages: Vec<ChatMessage>,
        params: GenerateParams,
        stream: bool,
        caller: Caller,
    },
    /// The number of tokens that [`Request::Generate`] would prefill for `messages`.
    CountPrompt {
        model: ModelRef,
        messages: Vec<ChatMessage>,
    },
    /// Readable Markdown of each HTML document.
    HtmlToMarkdown {
        html: Vec<String>,
    },
    /// The pages of a document. One document a request: it may be as large as a frame.
    Extract {
        document: Bytes,
        options: ExtractOptions,
        caller: Caller,
    },
    /// Publishes (or, with `None`, withdraws) the progress of this connection's backend.
    ReportProgress(Option<IndexProgress>),
    /// Asks for the reports of all connections.
    Progress,
    /// Writes the model with smaller weights into the server's own folder, as a GGUF file called after `name`.
    Quantize {
        model: ModelRef,
        name: String,
        /// `q4_k`, `q8_0` and so on.
        kind: String,
        waiter: Waiter,
    },
    /// Compares a model with the one that it was made from, tensor by tensor, and by how probable both find `text`.
    QuantizationReport {
        model: ModelRef,
        original: ModelRef,
        text: Option<String>,
        waiter: Waiter,
    },
    /// Memory that the model needs with a context of so many tokens (None for its own), with its weights in type `kind`
    /// (None for the one they have).
    ModelMemory {
        model: ModelRef,
        context_tokens: Option<u32>,
        kind: Option<String>,
    },
    /// Asks how far all long work on models is.
    ModelProgress,
    /// Downloads a model into the server's own folder; `name` is for those who watch.
    Download {
        order: DownloadOrder,
        name: String,
        waiter: Waiter,
    },
    /// Reads all files of a model and tells their hashes.
    CheckFiles {
        model: ModelRef,
        waiter: Waiter,
    },
    /// Asks what the server has written into its own folder.
    StoredModels,
    /// Removes the stored model at `path`.
    DeleteStored {
        path: String,
        waiter: Waiter,
    },
    /// The extension was dropped: stop once no other connection is open or busy.
    Retire,
}

/// The server's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Response {
    /// Answers [`Request::Hello`].
    Welcome {
        pid: u32,
    },
    /// Answers [`Request::Hello`] of another build; the server closes the connection after it. When `restarting`,
    /// the server's own binary has been replaced on disk: it exits now and its successor will agree with the client.
    Mismatch {
        protocol: u32,
        build: u64,
        restarting: bool,
    },
    /// Answers requests that return nothing.
    Done,
    Inspected(ModelInfo),
    Status(ServerStatus),
    Devices(Vec<Device>),
    Tokens(Vec<TokenizedText>),
    Texts(Vec<String>),
    /// `values` holds one row of `dimensions` numbers per text.
    Embeddings {
        dimensions: u32,
        values: Vec<f32>,
        tokens: u64,
    },
    /// `values` holds one row of `dimensions` numbers for each of `tokens`; `spellings` are the tokens as the vocabulary has
    /// them.
    TokenEmbeddings {
        dimensions: u32,
        values: Vec<f32>,
        tokens: TokenizedText,
        spellings: Vec<String>,
    },
    /// One number for each passage; larger is better.
    Scores {
        values: Vec<f32>,
        tokens: u64,
    },
    /// A piece of a streamed answer; never splits a character.
    Token(String),
    /// Final answer of a generation; `text` is complete even if it was streamed.
    Generated {
        text: String,
        finish: FinishReason,
        usage: Usage,
    },
    Count(u64),
    Document(ExtractedDocument),
    Progress(Vec<IndexProgress>),
    /// Answers [`Request::Quantize`]: the file, an absolute path, and what its header says.
    Quantized {
        path: String,
        info: ModelInfo,
    },
    QuantizationReport(QuantizationReport),
    ModelMemory(ModelMemory),
    ModelProgress(Vec<ModelProgress>),
    /// Answers [`Request::Download`]: the folder or GGUF file, relative to the server's own folder, and the commit.
    Downloaded {
        kind: ModelKind,
        path: String,
        commit: String,
        info: ModelInfo,
    },
    /// Answers [`Request::CheckFiles`], in the order of the model's files.
    Files(Vec<FileCheck>),
    StoredModels(Vec<StoredModel>),
    Failed(Failure),
}

impl Response {
    /// Whether the request is answered with this response.
    pub fn is_final(&self) -> bool {
        !matches!(self, Response::Token(_))
    }
}
