//! Every setting of pg_rag.
//!
//! Contexts are as narrow as they can be: what names a file is for superusers (`Suset`) or for the configuration file
//! (`Sighup`, where the supervisor reads it); what only changes the caller's own results is for everybody (`Userset`).

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};
use std::ffi::{CStr, CString};
use std::time::Duration;

/// Where `make models` and packages put the default models.
pub const DEFAULT_MODEL_PATH: &CStr = c"/usr/local/share/pg_rag/models";
pub const DEFAULT_EMBEDDING_MODEL: &CStr = c"all-MiniLM-L6-v2";
pub const DEFAULT_GENERATION_MODEL: &CStr = c"SmolLM2-135M-Instruct";

static MODEL_PATH: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(DEFAULT_MODEL_PATH));
static EMBEDDING_MODEL: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(DEFAULT_EMBEDDING_MODEL));
static GENERATION_MODEL: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(DEFAULT_GENERATION_MODEL));
static RERANK_MODEL: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static DEFAULT_INDEX: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static SERVER_BINARY: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static THREADS: GucSetting<i32> = GucSetting::<i32>::new(0);
static DEVICE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"auto"));
static MAX_QUEUED_REQUESTS: GucSetting<i32> = GucSetting::<i32>::new(256);
static MAX_MEMORY: GucSetting<i32> = GucSetting::<i32>::new(0);
static IDLE_UNLOAD: GucSetting<i32> = GucSetting::<i32>::new(0);
static MAX_CONCURRENT_REQUESTS: GucSetting<i32> = GucSetting::<i32>::new(0);
static MAX_TOKENS: GucSetting<i32> = GucSetting::<i32>::new(0);
static ALLOW_DOWNLOAD: GucSetting<bool> = GucSetting::<bool>::new(false);
static HUB_ENDPOINT: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static HUB_TOKEN_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static MAX_DOWNLOAD_SIZE: GucSetting<i32> = GucSetting::<i32>::new(64 << 10);
static SYNC_WORKER_IDLE: GucSetting<i32> = GucSetting::<i32>::new(4000);
static SYNC_RETRY_DELAY: GucSetting<i32> = GucSetting::<i32>::new(5000);
static SERVER_START_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(30_000);

/// Folder that holds models registered with a relative path.
pub fn model_path() -> String {
    text(&MODEL_PATH)
}

/// Model that `embed(text)` uses.
pub fn embedding_model() -> String {
    text(&EMBEDDING_MODEL)
}

/// Model that `generate` and `rag_answer` use when none is named.
pub fn generation_model() -> String {
    text(&GENERATION_MODEL)
}

/// Model that `rerank` and `rerank_score` use when none is named; empty means none.
pub fn rerank_model() -> String {
    text(&RERANK_MODEL)
}

/// Index that `rag_answer` uses when none is named; empty means the only one there is.
pub fn default_index() -> String {
    text(&DEFAULT_INDEX)
}

/// Path of `pg_rag_server`; empty means beside the extension's library.
pub fn server_binary() -> String {
    text(&SERVER_BINARY)
}

/// Compute threads of the model server; 0 means one per core.
pub fn threads() -> i32 {
    THREADS.get()
}

/// Where the model server computes: `auto`, `cpu`, `cuda` or `cuda:N`.
pub fn device() -> String {
    text(&DEVICE)
}

/// Requests that may wait in the model server before it refuses more.
pub fn max_queued_requests() -> i32 {
    MAX_QUEUED_REQUESTS.get()
}

/// Megabytes that models and generations may take in the model server; 0 means no limit.
pub fn max_memory_mb() -> i32 {
    MAX_MEMORY.get()
}

/// Seconds after which a model that nobody uses is unloaded; 0 means never.
pub fn idle_unload_s() -> i32 {
    IDLE_UNLOAD.get()
}

/// Requests that the session's role may have unanswered at once; 0 means any number.
pub fn max_concurrent_requests() -> i32 {
    MAX_CONCURRENT_REQUESTS.get()
}

/// The most tokens that one call may generate; None means no limit but the call's own.
pub fn max_tokens() -> Option<u32> {
    u32::try_from(MAX_TOKENS.get()).ok().filter(|&most| most > 0)
}

/// Whether models may be downloaded.
pub fn allow_download() -> bool {
    ALLOW_DOWNLOAD.get()
}

/// Address of the hub that models are downloaded from.
pub fn hub_endpoint() -> String {
    text(&HUB_ENDPOINT)
}

/// File with the token for the hub, if there is one.
pub fn hub_token_file() -> Option<String> {
    Some(text(&HUB_TOKEN_FILE)).filter(|path| !path.is_empty())
}

/// The most bytes that one download may have.
pub fn max_download_bytes() -> u64 {
    u64::from(MAX_DOWNLOAD_SIZE.get().unsigned_abs()) << 20
}

/// How long a sync worker stays when nothing is to be done.
pub fn sync_worker_idle() -> Duration {
    Duration::from_millis(SYNC_WORKER_IDLE.get().unsigned_abs().into())
}

/// First pause before a row that could not be indexed is tried again.
pub fn sync_retry_delay() -> Duration {
    Duration::from_millis(SYNC_RETRY_DELAY.get().unsigned_abs().into())
}

/// How long a call waits for the model server to start, in milliseconds.
pub fn server_start_timeout_ms() -> i32 {
    SERVER_START_TIMEOUT.get()
}

fn text(setting: &'static GucSetting<Option<CString>>) -> String {
    setting.get().map(|value| value.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Defines the settings and reserves their prefix.
pub fn init() {
    GucRegistry::define_string_guc(
        c"pg_rag.model_path",
        c"Folder that holds the models which were registered with a relative path.",
        c"It must be readable by the operating-system user that runs PostgreSQL, and lie outside the data directory.",
        &MODEL_PATH,
        GucContext::Suset,
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_string_guc(
        c"pg_rag.embedding_model",
        c"Model that embed(text) and new indexes use when none is named.",
        c"",
        &EMBEDDING_MODEL,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"pg_rag.rerank_model",
        c"Model that rerank() and rerank_score() use when none is named.",
        c"",
        &RERANK_MODEL,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"pg_rag.generation_model",
        c"Model that generate() and rag_answer() use when none is named.",
        c"",
        &GENERATION_MODEL,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"pg_rag.default_index",
        c"Index that rag_answer() and rag_ask() use when none is named.",
        c"Empty means the only index of the database; with several, a call must name one.",
        &DEFAULT_INDEX,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"pg_rag.server_binary",
        c"Path of the program pg_rag_server.",
        c"Empty means the file pg_rag_server beside the extension's library.",
        &SERVER_BINARY,
        GucContext::Sighup,
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_int_guc(
        c"pg_rag.threads",
        c"Number of compute threads of the model server.",
        c"0 means one per core. Takes effect when the model server starts again.",
        &THREADS,
        0,
        1024,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"pg_rag.device",
        c"Where the model server computes.",
        c"\"cpu\", \"cuda\" or \"cuda:N\" for a GPU, for which the server must be built, or \"auto\": the first GPU if there is one. Takes effect when the model server starts again.",
        &DEVICE,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"pg_rag.max_queued_requests",
        c"Number of requests that may wait in the model server before it refuses more.",
        c"Takes effect when the model server starts again.",
        &MAX_QUEUED_REQUESTS,
        1,
        100_000,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"pg_rag.max_memory",
        c"Memory that models and generations may take in the model server.",
        c"0 means no limit. Where a model does not fit, models that nobody uses are unloaded, or the call fails. Takes effect when the model server starts again.",
        &MAX_MEMORY,
        0,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_MB,
    );
    GucRegistry::define_int_guc(
        c"pg_rag.idle_unload",
        c"How long a model stays in the model server when nobody uses it.",
        c"0 means for ever. Takes effect when the model server starts again.",
        &IDLE_UNLOAD,
        0,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"pg_rag.max_concurrent_requests",
        c"Number of requests to the model server that a role may have unanswered at the same time.",
        c"0 means no limit. Set it for a role with ALTER ROLE; it counts the requests of all sessions of the role.",
        &MAX_CONCURRENT_REQUESTS,
        0,
        100_000,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"pg_rag.max_tokens",
        c"Number of tokens that one call may generate.",
        c"0 means no limit. A call that asks for more gets as many. Set it for a role with ALTER ROLE.",
        &MAX_TOKENS,
        0,
        i32::MAX,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"pg_rag.allow_download",
        c"Allows rag_download_model() to download models.",
        c"Nothing else downloads anything.",
        &ALLOW_DOWNLOAD,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"pg_rag.hub_endpoint",
        c"Address of the hub that models are downloaded from.",
        c"Empty for the Hugging Face Hub itself.",
        &HUB_ENDPOINT,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"pg_rag.hub_token_file",
        c"File with the token for private and gated repositories of the hub.",
        c"An absolute path. Only the user that runs PostgreSQL may be able to read the file. Empty means that there is no token.",
        &HUB_TOKEN_FILE,
        GucContext::Suset,
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_int_guc(
        c"pg_rag.max_download_size",
        c"The most that the files of one download may have together.",
        c"",
        &MAX_DOWNLOAD_SIZE,
        1,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_MB,
    );
    GucRegistry::define_int_guc(
        c"pg_rag.sync_worker_idle",
        c"How long the background worker that keeps indexes up to date stays in a database when nothing is to be done.",
        c"As long as it stays, the database cannot be dropped or copied.",
        &SYNC_WORKER_IDLE,
        0,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"pg_rag.sync_retry_delay",
        c"Pause before a row that could not be indexed is tried again.",
        c"It is four times as long after each attempt.",
        &SYNC_RETRY_DELAY,
        1,
        3_600_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"pg_rag.server_start_timeout",
        c"How long a call waits for the model server to start.",
        c"",
        &SERVER_START_TIMEOUT,
        100,
        3_600_000,
        GucContext::Userset,
        GucFlags::UNIT_MS,
    );
    crate::pg::settings::reserve_prefix(c"pg_rag");
}
