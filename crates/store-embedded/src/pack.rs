//! Compressing blocks, and the dictionary that makes it worth while: trained on some of a segment's own entries.
//! Which entries those are is left to `seal` and `merge`.

use zstd::zstd_safe::{CCtx, CParameter, compress_bound, get_error_name};

use crate::format::{Damaged, Record};

/// How hard stanzas are compressed.
const LEVEL: i32 = 2;
/// The size of a dictionary.
const DICTIONARY_BYTES: usize = 32 << 10;
/// A dictionary is trained on so many entries, spread evenly.
pub const SAMPLES_MAX: usize = 500;
/// … and on no more than so many bytes of each.
const SAMPLE_BYTES_MAX: usize = 2048;
/// With fewer entries a dictionary would cost more than it saves.
const SAMPLES_MIN: usize = 256;

/// Compresses blocks under one dictionary.
pub struct Packer {
    context: CCtx<'static>,
    /// The dictionary's number in the segment, 0 for none.
    pub dictionary: u32,
    packed: Vec<u8>,
}

impl Packer {
    /// Compresses under `dictionary`, which is `data`.
    pub fn new(dictionary: u32, data: Option<&[u8]>) -> Result<Packer, Damaged> {
        let mut context = CCtx::create();
        let failed = |code| Damaged::new(format!("a dictionary cannot be used: {}", get_error_name(code)));
        for parameter in [
            CParameter::CompressionLevel(LEVEL),
            CParameter::ChecksumFlag(true),
            CParameter::DictIdFlag(false),
        ] {
            context.set_parameter(parameter).map_err(failed)?;
        }
        if let Some(data) = data {
            context.load_dictionary(data).map_err(failed)?;
        }
        Ok(Packer { context, dictionary, packed: Vec::new() })
    }

    /// Compresses a block.
    pub fn pack(&mut self, plain: &[u8]) -> Result<&[u8], Damaged> {
        self.packed.clear();
        self.packed.reserve(compress_bound(plain.len()));
        let done = self.context.compress2(&mut self.packed, plain);
        done.map_err(|code| Damaged::new(format!("cannot be compressed: {}", get_error_name(code))))?;
        Ok(&self.packed)
    }
}

/// Collects entries to train a dictionary on.
#[derive(Default)]
pub struct Samples {
    samples: Vec<Vec<u8>>,
    /// The archives they are of, in the order in which they came.
    pub archives: Vec<u32>,
}

impl Samples {
    /// Adds an entry.
    pub fn add(&mut self, archive: u32, record: &Record<'_>) {
        let mut sample = Vec::with_capacity(record.stanza.len() + 64);
        let cut = record.stanza.get(..SAMPLE_BYTES_MAX).unwrap_or(record.stanza);
        Record { stanza: cut, ..*record }.put(&mut sample, record.stamp);
        self.samples.push(sample);
        if self.archives.last() != Some(&archive) {
            self.archives.push(archive);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// A dictionary, if there are enough entries and they have enough in common.
    pub fn train(&self) -> Option<Vec<u8>> {
        if self.samples.len() < SAMPLES_MIN {
            return None;
        }
        // Samples that have nothing in common give no dictionary; then there is none.
        zstd::dict::from_samples(&self.samples, DICTIONARY_BYTES).ok()
    }
}
