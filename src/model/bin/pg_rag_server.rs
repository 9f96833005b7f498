//! `pg_rag_server`: the process that owns the models of one PostgreSQL cluster.
//!
//! The supervisor background worker starts it with `serve`; the other commands are for people and for setup scripts.

use pg_rag_model::compute::Pool;
use pg_rag_model::server::{self, process, Config};
use pg_rag_model::{hub, quantize, source};
use pg_rag_protocol::message::ModelKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "\
usage:
  pg_rag_server serve --socket PATH [--threads N] [--max-queued N] [--max-memory-mb N] [--idle-unload-s N]
                      [--models-dir DIR] [--control-fd N] [--device auto|cpu|cuda|cuda:N]
      serves models on the Unix socket PATH until it is retired; N threads, 0 = one per core;
      models compute on the processor (cpu), on the first GPU (cuda), on GPU N counted from 0 (cuda:N), or on the first
      GPU if the server is built with --features cuda and there is one, else on the processor (auto, the default);
      models and generations take N MB at most, 0 = no limit; a model that nobody has used for N seconds is
      unloaded, 0 = never; quantised models are written into DIR; ends at once when the other end of the control descriptor is closed
  pg_rag_server fetch --repo REPO --revision REVISION --dest DIR --file NAME=SHA256 [--file ...]
      downloads files of a model from the Hugging Face Hub into the new folder DIR;
      HF_TOKEN, HF_ENDPOINT and HF_HUB_CACHE in the environment mean what they mean to the Hub's own tools
  pg_rag_server inspect embed|generate PATH
      prints what the headers of the model at PATH say, as JSON
  pg_rag_server quantize MODEL TYPE DIR NAME
      writes the generation model at MODEL with weights of TYPE (q4_k, q8_0, ...) as a GGUF file called after NAME in
      the folder DIR, and prints the file's path
  pg_rag_server extract --memory-bytes N
      reads one document, as the server starts it
  pg_rag_server --version";

/// Wrong arguments, or a command that failed: text for standard error and the exit code.
struct Exit(u8, String);

type Outcome = Result<(), Exit>;

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.split_first() {
        Some((&"serve", options)) => serve(options),
        Some((&"fetch", options)) => fetch(options),
        Some((&"inspect", [kind, path])) => inspect(kind, path),
        Some((&"quantize", [model, kind, dir, name])) => quantize(model, kind, dir, name),
        Some((&"extract", options)) => extract(options),
        Some((&"--version", [])) => {
            println!("pg_rag_server {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Some((&"--help", _)) => {
            println!("{USAGE}");
            Ok(())
        }
        _ => Err(usage("expected a command")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Exit(code, message)) => {
            eprintln!("pg_rag_server: {message}");
            ExitCode::from(code)
        }
    }
}

fn usage(message: impl std::fmt::Display) -> Exit {
    Exit(2, format!("{message}\n{USAGE}"))
}

fn failed(error: impl std::fmt::Display) -> Exit {
    Exit(1, error.to_string())
}

/// Options as pairs of `--name value`.
fn pairs<'a>(options: &[&'a str]) -> Result<Vec<(&'a str, &'a str)>, Exit> {
    options
        .chunks(2)
        .map(|pair| match pair {
            [name, value] => Ok((*name, *value)),
            _ => Err(usage(format!("option \"{}\" needs a value", pair.concat()))),
        })
        .collect()
}

fn number<N: std::str::FromStr>(name: &str, value: &str) -> Result<N, Exit> {
    value.parse().map_err(|_| usage(format!("value of \"{name}\" is not a valid number: \"{value}\"")))
}

fn serve(options: &[&str]) -> Outcome {
    let mut socket = None;
    let executable = std::env::current_exe().map_err(failed)?;
    let mut config = Config::new(PathBuf::new(), executable);
    let mut control_fd = None;
    for (name, value) in pairs(options)? {
        match name {
            "--socket" => socket = Some(PathBuf::from(value)),
            "--threads" => config.threads = number(name, value)?,
            "--device" => config.device = value.parse().map_err(usage)?,
            "--max-queued" => config.max_queued = number(name, value)?,
            "--max-memory-mb" => {
                let megabytes: u64 = number(name, value)?;
                config.max_memory_bytes = (megabytes > 0).then(|| megabytes.saturating_mul(1 << 20));
            }
            "--idle-unload-s" => {
                let seconds: u64 = number(name, value)?;
                config.idle_unload = (seconds > 0).then(|| Duration::from_secs(seconds));
            }
            "--models-dir" => config.models_dir = PathBuf::from(value),
            "--control-fd" => control_fd = Some(number(name, value)?),
            _ => return Err(usage(format!("unknown option \"{name}\""))),
        }
    }
    config.socket = socket.ok_or_else(|| usage("option \"--socket\" is missing"))?;
    process::arrange();
    if let Some(control_fd) = control_fd {
        process::exit_with_supervisor(control_fd)
            .map_err(|error| failed(format!("could not use descriptor {control_fd}: {error}")))?;
    }
    server::serve(config).map_err(failed)
}

fn fetch(options: &[&str]) -> Outcome {
    let (mut repo, mut revision, mut dest, mut files) = (None, None, None, Vec::new());
    for (name, value) in pairs(options)? {
        match name {
            "--repo" => repo = Some(value.to_owned()),
            "--revision" => revision = Some(value.to_owned()),
            "--dest" => dest = Some(PathBuf::from(value)),
            "--file" => match value.split_once('=') {
                Some((name, sha256)) => files.push((name.to_owned(), sha256.to_owned())),
                None => return Err(usage(format!("value of \"--file\" is not NAME=SHA256: \"{value}\""))),
            },
            _ => return Err(usage(format!("unknown option \"{name}\""))),
        }
    }
    let (Some(repo), Some(revision), Some(dest), false) = (repo, revision, dest, files.is_empty()) else {
        return Err(usage("\"fetch\" needs --repo, --revision, --dest and at least one --file"));
    };
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    hub::fetch(&hub::Fetch {
        repo,
        revision,
        files,
        dest,
        cache_dir: variable("HF_HUB_CACHE").map(PathBuf::from),
        endpoint: variable("HF_ENDPOINT"),
        token: variable("HF_TOKEN"),
    })
    .map_err(failed)
}

/// Nobody to wait for, and nobody to tell.
struct Patient;

impl quantize::Watch for Patient {
    fn progress(&self, _done: u64, _total: u64) {}

    fn is_cancelled(&self) -> bool {
        false
    }
}

fn quantize(model: &str, kind: &str, dir: &str, name: &str) -> Outcome {
    let mix: quantize::Mix = kind.parse().map_err(failed)?;
    let threads = Pool::count(0);
    let model = quantize::open(Path::new(model)).map_err(failed)?;
    let written = quantize::write(&model, mix, Path::new(dir), name, threads, &Patient).map_err(failed)?;
    println!("{}", written.path.display());
    Ok(())
}

fn extract(options: &[&str]) -> Outcome {
    let [("--memory-bytes", bytes)] = pairs(options)?[..] else {
        return Err(usage("\"extract\" needs --memory-bytes"));
    };
    process::confine(number("--memory-bytes", bytes)?, server::extract::cpu_limit_s())
        .and_then(|()| server::extract::run_process())
        .map_err(failed)
}

fn inspect(kind: &str, path: &str) -> Outcome {
    let kind: ModelKind = kind.parse().map_err(|()| usage(format!("kind of model is not known: \"{kind}\"")))?;
    let info = source::inspect(kind, Path::new(path)).map_err(failed)?;
    println!("{}", serde_json::to_string_pretty(&info).map_err(failed)?);
    Ok(())
}
