//! Secure boot V2: images with a signature sector.

use super::block::{BLOCK, BLOCKS, SignatureBlock};
use super::{PrivateKey, PublicKey, Random, SECTOR, SecureError};

/// What is done with content that does not end at a sector boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Padding {
    /// Filled up with 0xFF, as the bootloader expects it.
    #[default]
    Sector,
    /// Left as it is; the signature sector follows at once.
    None,
}

/// One block of a signed image, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Its place, 0 to 2.
    pub index: usize,
    /// The block.
    pub block: SignatureBlock,
    /// Its digest is that of the image.
    pub content_fits: bool,
    /// Its signature fits its own public key and digest.
    pub authentic: bool,
}

impl Checked {
    /// The block proves that its key's owner signed this image.
    pub fn is_valid(&self) -> bool {
        self.content_fits && self.authentic
    }
}

/// Signs content that carries no signature yet, with one to three keys.
pub fn sign(
    content: &[u8],
    keys: &[PrivateKey],
    padding: Padding,
    mut random: impl FnMut(&mut [u8]),
) -> Result<Vec<u8>, SecureError> {
    let content = padded(content, padding);
    let blocks = sign_blocks(&content, keys, &mut random)?;
    Ok(assemble(content, &blocks))
}

/// Adds signatures to those an image already has. Where it has none, the whole file is taken as unsigned content.
pub fn append(image: &[u8], keys: &[PrivateKey], mut random: impl FnMut(&mut [u8])) -> Result<Vec<u8>, SecureError> {
    let mut blocks = if image.len().is_multiple_of(SECTOR) { blocks(image) } else { Vec::new() };
    if blocks.is_empty() {
        return sign(image, keys, Padding::Sector, random);
    }
    let content = content(image)?.to_vec();
    if blocks.len() + keys.len() > BLOCKS {
        return Err(SecureError::TooManyBlocks(blocks.len() + keys.len()));
    }
    blocks.extend(sign_blocks(&content, keys, &mut random)?);
    Ok(assemble(content, &blocks))
}

/// Signs content that carries no signature yet with a key that never comes here (an HSM's). `sign` is given the
/// digest and returns the signature as [`PrivateKey::sign`] does; it is checked before it is used.
pub fn sign_with(
    content: &[u8],
    key: &PublicKey,
    padding: Padding,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, SecureError>,
) -> Result<Vec<u8>, SecureError> {
    let content = padded(content, padding);
    let digest = key.scheme().digest(&content);
    let block = checked_block(key, &digest, &sign(&digest)?)?;
    Ok(assemble(content, &[block]))
}

/// Adds a signature of a key that never comes here to those that an image already has.
pub fn append_with(
    image: &[u8],
    key: &PublicKey,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, SecureError>,
) -> Result<Vec<u8>, SecureError> {
    let mut blocks = blocks(image);
    if blocks.len() >= BLOCKS {
        return Err(SecureError::TooManyBlocks(blocks.len() + 1));
    }
    let content = content(image)?.to_vec();
    let digest = key.scheme().digest(&content);
    blocks.push(checked_block(key, &digest, &sign(&digest)?)?);
    Ok(assemble(content, &blocks))
}

fn checked_block(key: &PublicKey, digest: &[u8], signature: &[u8]) -> Result<SignatureBlock, SecureError> {
    if !key.verify(digest, signature) {
        return Err(SecureError::BadSignature);
    }
    SignatureBlock::build(key, digest, signature)
}

/// Puts a signature in that was made elsewhere (an HSM): RSA raw big-endian, curves in DER. It is checked first.
/// Content must end at a sector boundary, since the signer has signed exactly these bytes.
pub fn attach(content: &[u8], signatures: &[(PublicKey, Vec<u8>)]) -> Result<Vec<u8>, SecureError> {
    if !content.len().is_multiple_of(SECTOR) {
        return Err(SecureError::Alignment { what: "content length", value: content.len() as u64, of: SECTOR as u64 });
    }
    if signatures.len() > BLOCKS {
        return Err(SecureError::TooManyBlocks(signatures.len()));
    }
    let attach = |(key, signature): &(PublicKey, Vec<u8>)| {
        let signature = key.signature_from_external(signature).ok_or(SecureError::BadSignature)?;
        checked_block(key, &key.scheme().digest(content), &signature)
    };
    let blocks = signatures.iter().map(attach).collect::<Result<Vec<_>, _>>()?;
    Ok(assemble(content.to_vec(), &blocks))
}

/// The blocks at the start of the signature sector, up to the first that is none. They are not verified.
pub fn blocks(image: &[u8]) -> Vec<SignatureBlock> {
    let Some(sector) = image.len().checked_sub(SECTOR).and_then(|at| image.get(at..)) else { return Vec::new() };
    sector.chunks(BLOCK).take(BLOCKS).map_while(SignatureBlock::parse).collect()
}

/// Every valid-looking block of a signed image with what it proves. The signature sector is the last 4096 bytes.
pub fn check(image: &[u8]) -> Result<Vec<Checked>, SecureError> {
    let content = content(image)?;
    let sector = image.get(content.len()..).unwrap_or_default();
    let parse = |(index, bytes)| SignatureBlock::parse(bytes).map(|block| (index, block));
    let found = sector.chunks(BLOCK).take(BLOCKS).enumerate().filter_map(parse);
    let check = |(index, block): (usize, SignatureBlock)| {
        let content_fits = block.scheme().digest(content) == block.image_digest();
        Checked { index, content_fits, authentic: block.is_authentic(), block }
    };
    Ok(found.map(check).collect())
}

/// Verifies that one of the image's blocks is signed by `key`. Returns the places of the blocks that are.
///
/// A block with another image's digest is an error, whoever signed it: the boot ROM would refuse it.
pub fn verify(image: &[u8], key: &PublicKey, padding: Padding) -> Result<Vec<usize>, SecureError> {
    if padding == Padding::Sector && !image.len().is_multiple_of(SECTOR) {
        return Err(SecureError::Alignment { what: "image length", value: image.len() as u64, of: SECTOR as u64 });
    }
    let checked = check(image)?;
    if let Some(other) = checked.iter().find(|one| !one.content_fits) {
        return Err(SecureError::OtherContent(other.index));
    }
    let signed = |one: &&Checked| {
        one.block.scheme() == key.scheme() && key.verify(one.block.image_digest(), &one.block.signature())
    };
    let places: Vec<_> = checked.iter().filter(signed).map(|one| one.index).collect();
    if places.is_empty() { Err(SecureError::NotSignedByKey) } else { Ok(places) }
}

/// A signed image without its signature sector.
pub fn content(image: &[u8]) -> Result<&[u8], SecureError> {
    let end = image.len().checked_sub(SECTOR);
    end.and_then(|end| image.get(..end)).ok_or(SecureError::TooShort { found: image.len(), wanted: SECTOR })
}

fn padded(content: &[u8], padding: Padding) -> Vec<u8> {
    let mut content = content.to_vec();
    if padding == Padding::Sector {
        content.resize(content.len().next_multiple_of(SECTOR), 0xff);
    }
    content
}

fn sign_blocks(content: &[u8], keys: &[PrivateKey], random: Random<'_>) -> Result<Vec<SignatureBlock>, SecureError> {
    match keys.len() {
        0 => return Err(SecureError::NoKey),
        count if count > BLOCKS => return Err(SecureError::TooManyBlocks(count)),
        _ => {}
    }
    let mut sign = |key: &PrivateKey| {
        let digest = key.scheme().digest(content);
        SignatureBlock::build(&key.public()?, &digest, &key.sign(&digest, random)?)
    };
    keys.iter().map(&mut sign).collect()
}

fn assemble(mut content: Vec<u8>, blocks: &[SignatureBlock]) -> Vec<u8> {
    let end = content.len() + SECTOR;
    blocks.iter().for_each(|block| content.extend_from_slice(block.as_bytes()));
    content.resize(end, 0xff);
    content
}
