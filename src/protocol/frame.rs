//! Frames: a little-endian `u32` payload length, then the payload (one message, encoded by postcard).

use serde::de::DeserializeOwned;
use serde::Serialize;

/// Bytes of the length prefix.
pub const HEADER_BYTES: usize = 4;

/// Largest payload that either side accepts. A larger one is refused before memory is reserved for it.
pub const MAX_PAYLOAD_BYTES: usize = 256 * 1024 * 1024;

/// Why a frame could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("message of {0} bytes is larger than the limit of {MAX_PAYLOAD_BYTES} bytes")]
    TooLarge(usize),
    #[error("message is malformed: {0}")]
    Malformed(#[from] postcard::Error),
}

/// Encodes `message` as one complete frame, header included.
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, FrameError> {
    let mut bytes = postcard::to_extend(message, vec![0u8; HEADER_BYTES])?;
    let payload_bytes = bytes.len() - HEADER_BYTES;
    if payload_bytes > MAX_PAYLOAD_BYTES {
        return Err(FrameError::TooLarge(payload_bytes));
    }
    bytes[..HEADER_BYTES].copy_from_slice(&(payload_bytes as u32).to_le_bytes());
    Ok(bytes)
}

/// Reads the payload length out of a frame header.
pub fn payload_bytes(header: [u8; HEADER_BYTES]) -> Result<usize, FrameError> {
    let length = u32::from_le_bytes(header) as usize;
    if length > MAX_PAYLOAD_BYTES {
        return Err(FrameError::TooLarge(length));
    }
    Ok(length)
}

/// Decodes the payload of a frame (without its header). Trailing bytes are an error.
pub fn decode<M: DeserializeOwned>(payload: &[u8]) -> Result<M, FrameError> {
    let (message, rest) = postcard::take_from_bytes(payload)?;
    if !rest.is_empty() {
        return Err(FrameError::Malformed(postcard::Error::DeserializeBadEncoding));
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Bytes, ExtractOptions};
    use crate::message::{Caller, Request, Response};

    #[test]
    fn a_message_survives_the_round_trip() {
        let request = Request::HtmlToMarkdown { html: vec!["<p>é</p>".into(), String::new()] };
        let bytes = encode(&request).unwrap();
        let length = payload_bytes(bytes[..HEADER_BYTES].try_into().unwrap()).unwrap();
        assert_eq!(length, bytes.len() - HEADER_BYTES);
        assert_eq!(decode::<Request>(&bytes[HEADER_BYTES..]).unwrap(), request);
    }

    #[test]
    fn a_document_takes_its_own_size() {
        let document = Bytes(vec![0xff; 1 << 20]);
        let caller = Caller { role: 1, max_requests: 2 };
        let request = Request::Extract { document, options: ExtractOptions::default(), caller };
        let bytes = encode(&request).unwrap();
        assert!(bytes.len() < (1 << 20) + 64, "{}", bytes.len());
        assert_eq!(decode::<Request>(&bytes[HEADER_BYTES..]).unwrap(), request);
        assert!(decode::<Request>(&bytes[HEADER_BYTES..bytes.len() - 9]).is_err());
    }

    #[test]
    fn an_oversized_header_is_refused() {
        assert!(matches!(payload_bytes(u32::MAX.to_le_bytes()), Err(FrameError::TooLarge(_))));
    }

    #[test]
    fn truncated_and_trailing_bytes_are_errors() {
        let bytes = encode(&Response::Texts(vec!["abc".into()])).unwrap();
        let payload = &bytes[HEADER_BYTES..];
        assert!(decode::<Response>(&payload[..payload.len() - 1]).is_err());
        let mut longer = payload.to_vec();
        longer.push(0);
        assert!(decode::<Response>(&longer).is_err());
    }
}
