//! The prompt that fits a model: passages packed into its context, between fences.

use crate::error::{error, from_prompt, invalid_parameter, unexpected_response, Result};
use crate::functions::generate::{generate_turn, Generated, SamplingArguments};
use crate::functions::tokens::tokenize_all;
use crate::models::catalog::Model;
use crate::server::client;
use pg_rag_engine::prompt::{self, Passage};
use pg_rag_protocol::message::{ChatMessage, GenerateParams, Request, Response, Role};
use pgrx::PgSqlErrorCode;
use sha2::{Digest, Sha256};

/// Tokens that a numbered, fenced passage costs beside its text.
const PASSAGE_OVERHEAD_TOKENS: usize = 24;

/// Least room for passages that is worth a prompt.
const MIN_CONTEXT_TOKENS: usize = 2 * PASSAGE_OVERHEAD_TOKENS;

/// What decides how a question is answered, besides its passages.
pub struct AnswerSpec<'a> {
    pub question: &'a str,
    pub model: &'a Model,
    /// The body of a template; None: the usual one.
    pub template: Option<&'a str>,
    pub max_context_tokens: Option<i32>,
    pub max_tokens: i32,
}

/// A prompt that fits the model.
pub struct Prompt {
    pub messages: Vec<ChatMessage>,
    /// Indexes of the passages that are in it, in order.
    pub used: Vec<usize>,
    /// What the model's context leaves for the answer, at most `max_tokens`.
    pub answer_tokens: u32,
    /// The word between the passages.
    pub fence: String,
}

impl AnswerSpec<'_> {
    /// Packs as many `passages` as fit, in order, and renders the prompt.
    pub fn prompt(&self, passages: Vec<(Option<String>, String)>) -> Result<Prompt> {
        if self.max_tokens < 1 {
            return Err(invalid_parameter(format!("max_tokens must be at least 1, not {}", self.max_tokens)));
        }
        let fence = fence(self.question, &passages);
        let without_passages = self.messages(&[], &fence)?;
        let fixed_tokens = self.count(&without_passages)?;
        let context_tokens = self.model.max_tokens as usize;
        let answer_tokens = (self.max_tokens as usize).min(context_tokens.saturating_sub(fixed_tokens));
        let room = context_tokens.saturating_sub(fixed_tokens + answer_tokens);
        let budget = match self.max_context_tokens {
            Some(most) if most < MIN_CONTEXT_TOKENS as i32 => {
                return Err(invalid_parameter(format!(
                    "max_context_tokens must be at least {MIN_CONTEXT_TOKENS}, not {most}"
                )))
            }
            Some(most) => room.min(most as usize),
            None => room,
        };
        if budget < MIN_CONTEXT_TOKENS {
            return Err(error(
                PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
                format!("question and answer leave no room for passages in the context of {context_tokens} tokens"),
            )
            .set_hint("Shorten the question, lower max_tokens, or use a model with a longer context."));
        }
        let passages = self.measured(passages)?;
        let packed = prompt::pack(&passages, budget, PASSAGE_OVERHEAD_TOKENS);
        let kept: Vec<Passage> = packed.iter().map(|packed| packed.apply(&passages)).collect();
        let messages = self.messages(&kept, &fence)?;
        Ok(Prompt {
            messages,
            used: packed.iter().map(|packed| packed.index).collect(),
            answer_tokens: answer_tokens as u32,
            fence,
        })
    }

    fn messages(&self, passages: &[Passage], fence: &str) -> Result<Vec<ChatMessage>> {
        let template = self.template.unwrap_or(prompt::DEFAULT_TEMPLATE);
        let user = prompt::render(self.question, passages, fence, template).map_err(from_prompt)?;
        Ok(vec![
            ChatMessage { role: Role::System, content: prompt::SYSTEM.to_owned() },
            ChatMessage { role: Role::User, content: user },
        ])
    }

    /// Tokens that the model would prefill for `messages`.
    fn count(&self, messages: &[ChatMessage]) -> Result<usize> {
        let request = Request::CountPrompt { model: self.model.reference.clone(), messages: messages.to_vec() };
        match client::call(&request)? {
            Response::Count(count) => Ok(count as usize),
            _ => Err(unexpected_response("a number of tokens")),
        }
    }

    /// Passages with their numbers of tokens, counted in one round trip.
    fn measured(&self, passages: Vec<(Option<String>, String)>) -> Result<Vec<Passage>> {
        let texts = passages.iter().map(|(_, content)| content.clone()).collect();
        let tokens = tokenize_all(self.model, texts)?;
        Ok(passages
            .into_iter()
            .zip(tokens)
            .map(|((title, content), tokens)| Passage { title, content, tokens: tokens.ids.len() })
            .collect())
    }

    pub fn params(&self, prompt: &Prompt, temperature: f32, seed: Option<i64>) -> Result<GenerateParams> {
        let mut params = SamplingArguments {
            max_tokens: Some(self.max_tokens),
            temperature: Some(temperature),
            top_p: Some(1.0),
            top_k: Some(0),
            repeat_penalty: Some(1.1),
            seed,
            stop: None,
            json_schema: None,
        }
        .params()?;
        params.max_tokens = params.max_tokens.min(prompt.answer_tokens);
        params.whole_sentences = true;
        Ok(params)
    }

    pub fn generate(&self, prompt: &Prompt, temperature: f32, seed: Option<i64>) -> Result<Generated> {
        let params = self.params(prompt, temperature, seed)?;
        let mut generated = generate_turn(self.model, prompt.messages.clone(), params)?;
        generated.text = prompt::strip_fences(&generated.text, &prompt.fence);
        Ok(generated)
    }
}

/// A word for the fences, different for every question and set of passages, so that no document can be written to
/// contain it; the same for the same call, so that greedy answers repeat.
fn fence(question: &str, passages: &[(Option<String>, String)]) -> String {
    let mut hash = Sha256::new();
    hash.update(question);
    for (_, content) in passages {
        hash.update([0]);
        hash.update(content);
    }
    hash.finalize()[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}
