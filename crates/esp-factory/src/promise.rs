//! What the ledger is told before a unit's eFuses are burned, and what that proves after a crash.
//!
//! A key that is hidden cannot be compared, and not be burned again. But a burn hides a block only in its last step, after
//! everything before it was read back right. So a block that was empty when the ledger was told which key would go into it,
//! and that is hidden now with this key's purpose, holds this key, unless somebody else burned another one in between. The
//! ledger keeps a fingerprint, never the key.

use esp_model::efuse::{Block, Burn, Efuses, KeyPurpose, Request, bits};
use serde::{Deserialize, Serialize};

use esp_ops::efuse::marks::fingerprint;
use esp_ops::error::ToolError;

/// The event's name in the ledger.
pub const EVENT: &str = "efuse_intent";

/// Fields with the value that their next bit makes.
type Counts = Vec<(String, u32)>;

/// The event's body.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// Hash of the recipe.
    recipe: String,
    /// Keys and data that may be hidden afterwards.
    blocks: Vec<Promised>,
    /// Fields whose next bit the recipe asks for, with the value that was meant.
    counts: Counts,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Promised {
    block: String,
    purpose: Option<String>,
    print: String,
}

/// What is left to burn, and what is burned and hidden.
#[derive(Debug, Default)]
pub struct Settled {
    /// Requests that the engine can judge by what it reads.
    pub open: Vec<Request>,
    /// Blocks that hold what was promised, as far as anybody can tell.
    pub hidden: Vec<String>,
}

impl Settled {
    /// What a record says about hidden keys.
    pub fn note(&self) -> Option<String> {
        let what = "purpose and protection are as planned and the ledger was told of this key before; hidden, it cannot be \
                    compared";
        (!self.hidden.is_empty()).then(|| format!("{}: {what}", self.hidden.join(", ")))
    }
}

impl Promise {
    /// Everything that `requests` will put where it cannot be read, or count.
    pub fn of(recipe: &str, requests: &[Request], counts: Counts) -> Self {
        let promised = |request: &Request| match request {
            Request::Key { block, key, purpose, .. } => {
                Some(Promised { block: block.clone(), purpose: Some(purpose.clone()), print: fingerprint(key) })
            }
            Request::Block { block, data, .. } => {
                Some(Promised { block: block.clone(), purpose: None, print: fingerprint(data) })
            }
            _ => None,
        };
        Self { recipe: recipe.into(), blocks: requests.iter().filter_map(promised).collect(), counts: counts.to_vec() }
    }

    fn has(&self, block: &str, purpose: Option<&str>, bytes: &[u8]) -> bool {
        let print = fingerprint(bytes);
        let same = |one: &&Promised| one.block == block && one.purpose.as_deref() == purpose && one.print == print;
        self.blocks.iter().any(|one| same(&one))
    }

    fn block_of(&self, purpose: &str, key: &[u8]) -> Option<&str> {
        let print = fingerprint(key);
        let found = self.blocks.iter().find(|one| one.purpose.as_deref() == Some(purpose) && one.print == print);
        found.map(|one| one.block.as_str())
    }
}

/// Requests that mean the same however often they are made: each half of a long key has its block, and a next bit is a
/// value. What was promised before counts, for some of it may be burned by now. With it, the values of the next bits.
pub fn resolve(
    efuses: &Efuses,
    requests: Vec<Request>,
    before: Option<&Promise>,
    recipe: &str,
) -> Result<(Vec<Request>, Counts), ToolError> {
    let before_of_recipe = before.filter(|promise| promise.recipe == recipe);
    let mut burn = Burn::new(efuses.clone());
    let (mut resolved, mut counts) = (Vec::new(), Counts::new());
    for request in requests {
        match &request {
            Request::NextBit { name } => {
                let promised =
                    before_of_recipe.and_then(|promise| promise.counts.iter().find(|(field, _)| field == name));
                let value = promised.map(|(_, value)| *value).or_else(|| next_value(efuses, name));
                let Some(value) = value else {
                    resolved.push(request);
                    continue;
                };
                counts.push((name.clone(), value));
                resolved.push(Request::Field { name: name.clone(), value: value.to_le_bytes().to_vec() });
            }
            Request::Key { purpose, key, .. } if key.len() == 64 && !halves(efuses, purpose).is_empty() => {
                let own = split(efuses, &mut burn, &request, before)?;
                resolved.extend(own);
            }
            _ => {
                // For the blocks that are taken; whether it is possible at all, the engine says.
                let _ = burn.add(&request);
                resolved.push(request);
            }
        }
    }
    Ok((resolved, counts))
}

fn next_value(efuses: &Efuses, name: &str) -> Option<u32> {
    let present = efuses.number(name)?;
    let next = present | (!present & present.wrapping_add(1));
    let len = efuses.table.field(name)?.len();
    (len >= 32 || next >> len == 0).then_some(next)
}

fn halves<'e>(efuses: &'e Efuses, purpose: &str) -> &'e [String] {
    find_purpose(efuses, purpose).map_or(&[], |purpose| &purpose.split)
}

fn find_purpose<'e>(efuses: &'e Efuses, name: &str) -> Option<&'e KeyPurpose> {
    efuses.table.key_purposes.iter().find(|purpose| purpose.name == name)
}

fn find_block<'e>(efuses: &'e Efuses, name: &str) -> Option<&'e Block> {
    let fits = |block: &&Block| block.name == name || block.aliases.iter().any(|alias| alias == name);
    efuses.table.blocks.iter().find(fits)
}

/// A long key as two, each with its block.
fn split(
    efuses: &Efuses,
    burn: &mut Burn,
    request: &Request,
    before: Option<&Promise>,
) -> Result<Vec<Request>, ToolError> {
    let Request::Key { block, key, purpose, read_protect, write_protect } = request else { return Ok(Vec::new()) };
    let ([first, second], Some((low, high))) = (halves(efuses, purpose), key.split_at_checked(32)) else {
        return Ok(vec![request.clone()]);
    };
    let half = |block: &str, key: &[u8], purpose: &str| Request::Key {
        block: block.into(),
        key: key.to_vec(),
        purpose: purpose.into(),
        read_protect: *read_protect,
        write_protect: *write_protect,
    };
    let promised = before.and_then(|promise| Some((promise.block_of(first, low)?, promise.block_of(second, high)?)));
    if let Some((one, two)) = promised {
        return Ok(vec![half(one, low, first), half(two, high, second)]);
    }
    let (taken, own) = (burn.pending().clone(), find_block(efuses, block).map(|block| block.id));
    burn.add(request)?;
    let is_new = |block: &&Block| {
        let (then, now) = (taken.get(&block.id), burn.pending().get(&block.id));
        block.is_key && Some(block.id) != own && now != then && now.is_some_and(|words| !bits::is_zero(words))
    };
    match efuses.table.blocks.iter().find(is_new) {
        Some(next) => Ok(vec![half(block, low, first), half(&next.name, high, second)]),
        None => Ok(vec![request.clone()]),
    }
}

/// Takes out what is burned and hidden as promised; only its freezing may be left to do.
pub fn settle(efuses: &Efuses, requests: Vec<Request>, promise: Option<&Promise>) -> Settled {
    let mut settled = Settled::default();
    for request in requests {
        let done = promise.and_then(|promise| rest_of_hidden(efuses, &request, promise));
        match done {
            Some((block, rest)) => {
                settled.hidden.push(block);
                settled.open.extend(rest);
            }
            None => settled.open.push(request),
        }
    }
    settled
}

/// The block, and what is still to be done for it; None: it is not hidden, or not what was promised.
fn rest_of_hidden(efuses: &Efuses, request: &Request, promise: &Promise) -> Option<(String, Vec<Request>)> {
    let (name, purpose, bytes, write_protect) = match request {
        Request::Key { block, key, purpose, write_protect, .. } => (block, Some(purpose.as_str()), key, *write_protect),
        Request::Block { block, data, .. } => (block, None, data, false),
        _ => return None,
    };
    let block = find_block(efuses, name)?;
    let known = purpose.map(|purpose| find_purpose(efuses, purpose));
    let field = known.flatten().and_then(|purpose| purpose.field.as_deref());
    let field = field.and_then(|name| efuses.table.field(name));
    let (hides, freezes) = match field {
        Some(field) => (&field.read_protect, field.write_protect.or(block.write_protect)),
        None => (&block.read_protect, block.write_protect),
    };
    let has = efuses.purpose(block);
    let fits = has.is_none() || purpose.is_none() || has.as_deref() == purpose;
    if hides.is_empty() || efuses.readable(hides) || !fits || !promise.has(name, purpose, bytes) {
        return None;
    }
    let open = write_protect && efuses.writeable(freezes);
    let name = field.map_or(&block.name, |field| &field.name).clone();
    let freeze = open.then(|| Request::WriteProtect { name: name.clone() });
    Some((name, freeze.into_iter().collect()))
}
