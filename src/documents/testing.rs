//! What tests of several readers need: archives, made on the spot.

use flate2::{Compress, Compression, Crc, FlushCompress};

/// A ZIP archive of these files, packed.
pub fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut directory = Vec::new();
    for (name, contents) in files {
        let packed = deflate(contents);
        let mut crc = Crc::new();
        crc.update(contents);
        let local_at = bytes.len() as u32;
        let mut fields = Vec::new();
        for number in [20u16, 0, 8, 0, 0] {
            fields.extend(number.to_le_bytes());
        }
        for number in [crc.sum(), packed.len() as u32, contents.len() as u32] {
            fields.extend(number.to_le_bytes());
        }
        fields.extend((name.len() as u16).to_le_bytes());
        fields.extend(0u16.to_le_bytes());
        bytes.extend(b"PK\x03\x04");
        bytes.extend(&fields);
        bytes.extend(name.as_bytes());
        bytes.extend(&packed);
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
