//! What tests of several readers need: archives, made on the spot.

use flate2::{Compress, Compression, Crc, FlushCompress};
use std::collections::HashMap;

/// The contents of a file, packed, and what its archive says of them.
#[derive(Clone)]
pub struct Packed {
    pub bytes: Vec<u8>,
    pub crc: u32,
    pub plain_bytes: u32,
}

impl Packed {
    pub fn new(contents: &[u8]) -> Self {
        let mut crc = Crc::new();
        crc.update(contents);
        Self { bytes: deflate(contents), crc: crc.sum(), plain_bytes: contents.len() as u32 }
    }

    /// So many zeros, in whole megabytes: each is packed by itself, so that one serves for all.
    pub fn zeros(count: u64) -> Self {
        let megabyte = vec![0; 1 << 20];
        let mut state = Compress::new(Compression::best(), false);
        let mut packed = Vec::with_capacity(64 * 1024);
        state.compress_vec(&megabyte, &mut packed, FlushCompress::Full).expect("zeros can be packed");
        assert_eq!(state.total_in(), 1 << 20);
        let mut bytes = packed.repeat((count >> 20) as usize);
        bytes.extend(deflate(b""));
        Self { bytes, crc: 0, plain_bytes: 0 }
    }
}

/// A ZIP archive of these files, packed.
pub fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let packed: Vec<(&str, Packed)> = files.iter().map(|(name, contents)| (*name, Packed::new(contents))).collect();
    zip_of(&packed.iter().map(|(name, packed)| (*name, packed)).collect::<Vec<_>>())
}

/// A ZIP archive of packed files. What is given for several names is in it once.
pub fn zip_of(files: &[(&str, &Packed)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut directory = Vec::new();
    let mut places: HashMap<*const Packed, u32> = HashMap::new();
    for &(name, packed) in files {
        let mut fields = Vec::new();
        for number in [20u16, 0, 8, 0, 0] {
            fields.extend(number.to_le_bytes());
        }
        for number in [packed.crc, packed.bytes.len() as u32, packed.plain_bytes] {
            fields.extend(number.to_le_bytes());
        }
        fields.extend((name.len() as u16).to_le_bytes());
        fields.extend(0u16.to_le_bytes());
        let local_at = *places.entry(std::ptr::from_ref(packed)).or_insert_with(|| {
            let at = bytes.len() as u32;
            bytes.extend(b"PK\x03\x04");
            bytes.extend(&fields);
            bytes.extend(name.as_bytes());
            bytes.extend(&packed.bytes);
            at
        });
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(&fields);
        directory.extend([0; 10]);
        directory.extend(local_at.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (start, size) = (bytes.len() as u32, directory.len() as u32);
    bytes.extend(&directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend((files.len() as u16).to_le_bytes());
    bytes.extend((files.len() as u16).to_le_bytes());
    bytes.extend(size.to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes.extend([0; 2]);
    bytes
}

fn deflate(contents: &[u8]) -> Vec<u8> {
    let mut state = Compress::new(Compression::best(), false);
    let mut packed = Vec::new();
    while state
        .compress_vec(&contents[state.total_in() as usize..], &mut packed, FlushCompress::Finish)
        .is_ok_and(|status| status != flate2::Status::StreamEnd)
    {
        packed.reserve(64 * 1024);
    }
    packed
}
