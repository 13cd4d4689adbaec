//! `esp_recover_chip`: a ladder that stops at the first success; nothing is written without a whole backup before it.

mod flash;
mod line;
mod repair;

use esp_link::{ConnectOptions, Mode};
use esp_model::job::Job;
use esp_ops::args::PortUrl;
use esp_ops::boot::log::{self, BootLog, BootVerdict};
use esp_ops::error::{Code, FlashState, ToolError};
use esp_ops::flash::backup;
use esp_ops::flash::{belongs, files, keep, project};
use esp_ops::guard::Risk;
use esp_ops::guard::confirm::Act;
use esp_ops::session::device::{Connected, Warm};
use esp_ops::session::identity::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct Recover;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// Seconds to wait for BOOT and EN by hand if no reset helps (default 20).
    watch_s: Option<f64>,
    /// Back up everything, then make the smallest repair that lets it boot.
    #[serde(default)]
    repair: bool,
    /// Build to repair from, as in esp_flash_firmware.
    project: Option<String>,
    /// Folder for the backup (default: esp-backup/MAC/recover).
    #[schemars(extend("x-rare" = true))]
    backup_dir: Option<String>,
    /// Erase everything, as a last resort after the backup; the first call returns a confirm_token.
    #[serde(default)]
    erase_all: bool,
    /// Token from the first call of erase_all.
    confirm_token: Option<String>,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It boots; `repaired` lists what was changed for that.
    Recovered,
    /// The loader and the flash work, but it does not boot: `next` names what repairs it.
    NeedsRepair,
    /// Something has to be pressed, plugged or soldered.
    NeedsHands,
    /// eFuses keep the loader closed, permanently.
    Locked,
    /// The flash does not answer.
    FlashDead,
    /// Loader and flash answer, but the loader cannot read the flash: whether it boots is not known.
    Unknown,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// The port.
    port: String,
    /// recovered, needs_repair, needs_hands, locked, flash_dead or unknown.
    verdict: Verdict,
    /// Why it did not answer or boot, as first seen; left out where nothing was wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    /// Each rung: what was tried and what came of it.
    steps: Vec<Step>,
    /// The device, if it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<Device>,
    /// What was repaired.
    repaired: Vec<String>,
    /// The backup that was made before.
    #[serde(skip_serializing_if = "Option::is_none")]
    backup: Option<String>,
    /// What to do now.
    next: Vec<String>,
    /// The plan that a person approves.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<String>,
    /// For the second call with erase_all.
    #[serde(skip_serializing_if = "Option::is_none")]
    confirm_token: Option<String>,
}

/// One rung.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Step {
    /// What was tried.
    tried: String,
    /// It worked.
    worked: bool,
    /// What was seen.
    seen: String,
}

impl Tool for Recover {
    const NAME: &'static str = "esp_recover_chip";
    const TITLE: &'static str = "Recover chip";
    const ABOUT: &'static str = "Find out why a device does not answer or boot (port, reset, BOOT and EN by hand, \
         ROM loader, flash id and voltage). With repair, back up the flash, then make the smallest fix (otadata, \
         NVS, bootloader, table, app).";
    const RISK: Risk = Risk::Destroys;
    const CONFIRMS: bool = true;
    const LONG: bool = true;
    const FILES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        // What is given must be readable before anything is tried.
        let artefacts = artefacts(ctx, input.project.as_deref())?;
        let url = ctx.find_port(input.port.as_ref(), job)?;
        let mut ladder = Ladder::new(url.to_string());
        let mut lease = match ctx.lease_port(Some(&url), job) {
            Ok((lease, _)) => lease,
            Err(error) if line::is_held(&error) => return Ok(ladder.held(error)),
            Err(error) => return Err(error),
        };
        drop(lease.warm.take());
        let watch_s = input.watch_s.unwrap_or(20.0).clamp(0.0, 600.0);
        let Some(mut connected) = line::connect(ctx, job, &url, watch_s, &mut ladder)? else {
            return Ok(ladder.end());
        };
        ladder.device = Some(Device::read(&mut connected, job)?);
        if connected.loader.mode() == Mode::SecureDownload {
            ladder.fault("examine", "secure download mode is burned: nothing can be read");
            ladder.next("signed and encrypted images can still be written with esp_flash_firmware and flash_size");
            ladder.verdict = Verdict::Locked;
            lease.keep(Warm::new(connected));
            return Ok(ladder.end());
        }
        let left = match flash::answers(&mut connected, job, &mut ladder)? {
            true => work(ctx, job, &url, &input, &artefacts, connected, &mut ladder)?,
            false => Some(connected),
        };
        if let Some(connected) = left {
            lease.keep(Warm::new(connected));
        }
        Ok(ladder.end())
    }

    fn summary(out: &Out) -> String {
        let who = out.device.as_ref().map_or_else(|| out.port.clone(), Device::to_string);
        let verdict = serde_json::to_value(out.verdict).ok();
        let verdict = verdict.as_ref().and_then(|verdict| verdict.as_str()).unwrap_or_default();
        let cause = out.cause.as_deref().unwrap_or_default();
        let told = match (out.verdict, cause.is_empty(), out.repaired.is_empty()) {
            (Verdict::Recovered, true, true) => "it boots; nothing had to be repaired".to_owned(),
            (Verdict::Recovered, _, true) => format!("recovered; cause: {cause}"),
            (Verdict::Recovered, _, false) => {
                format!("recovered by writing {}; cause: {cause}", out.repaired.join(", "))
            }
            (_, true, _) => verdict.to_owned(),
            _ => format!("{verdict}: {cause}"),
        };
        let next = if out.next.is_empty() { String::new() } else { format!("\nnext: {}", out.next.join("; ")) };
        format!("{who}: {told}{next}")
    }
}

/// The rungs so far.
struct Ladder {
    port: String,
    verdict: Verdict,
    cause: Option<String>,
    steps: Vec<Step>,
    device: Option<Device>,
    repaired: Vec<String>,
    backup: Option<String>,
    next: Vec<String>,
    plan: Option<String>,
    confirm_token: Option<String>,
    /// How it connected: the same way leads there again after a start.
    way: Option<ConnectOptions>,
    /// What the last start showed.
    console: Option<BootLog>,
}

impl Ladder {
    fn new(port: String) -> Self {
        Self {
            port,
            verdict: Verdict::NeedsHands,
            cause: None,
            steps: Vec::new(),
            device: None,
            repaired: Vec::new(),
            backup: None,
            next: Vec::new(),
            plan: None,
            confirm_token: None,
            way: None,
            console: None,
        }
    }

    /// Somebody else has the port: they have to free it. That is an end of the ladder, not a failure of it.
    fn held(mut self, error: ToolError) -> Out {
        self.fault("open the port", error.message);
        self.next(error.next_step);
        self.end()
    }

    fn note(&mut self, tried: impl Into<String>, worked: bool, seen: impl Into<String>) {
        self.steps.push(Step { tried: tried.into(), worked, seen: seen.into() });
    }

    /// A rung that failed and shows what is wrong; the first such one is the cause.
    fn fault(&mut self, tried: impl Into<String>, seen: impl Into<String>) {
        let seen = seen.into();
        self.cause.get_or_insert_with(|| seen.clone());
        self.note(tried, false, seen);
    }

    fn next(&mut self, step: impl Into<String>) {
        self.next.push(step.into());
    }

    fn end(self) -> Out {
        let Self { port, verdict, cause, steps, device, repaired, backup, next, plan, confirm_token, .. } = self;
        Out { port, verdict, cause, steps, device, repaired, backup, next, plan, confirm_token }
    }
}

fn artefacts(ctx: &Ctx, path: Option<&str>) -> Result<Vec<files::Piece>, ToolError> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let mut project = project::read(ctx, path)?;
    if project.elf.is_some() {
        return Err(ToolError::new(Code::NoProject, format!("`{path}` is a program alone"))
            .next("esp_app_prepare makes a folder of it that can be given as project"));
    }
    let mut pieces = files::load(ctx, &project.files)?;
    pieces.append(&mut project.made);
    files::no_overlap(&mut pieces)?;
    Ok(pieces)
}

/// Loader and flash answer: what keeps the device from booting? Gives the connection back, if there still is one.
fn work(
    ctx: &Ctx,
    job: &Job,
    url: &esp_link::port::PortUrl,
    input: &In,
    artefacts: &[files::Piece],
    mut connected: Connected,
    ladder: &mut Ladder,
) -> Result<Option<Connected>, ToolError> {
    let chip = connected.loader.chip();
    belongs::check(artefacts, chip, None)?;
    files::check_images(artefacts, chip, connected.loader.revision(), connected.loader.attach_flash(job, None)?)?;
    if !connected.loader.can_read() {
        ladder.note("boot chain", false, format!("the ROM loader of {} cannot read flash", chip.name));
        ladder.verdict = Verdict::Unknown;
        ladder.next("esp_run_firmware capture_s=5 shows how it starts; writing works without reading: esp_flash_firmware project=… or files=[…]");
        return Ok(Some(connected));
    }
    if !repair::diagnose(&mut connected, job, ladder)? {
        // By its bytes it starts. Does it?
        match listen(ctx, job, url, connected, ladder)? {
            Some(again) => connected = again,
            None => return Ok(None),
        }
    }
    ladder.verdict = Verdict::NeedsRepair;
    if !input.repair && !input.erase_all {
        ladder.next(
            "esp_recover_chip repair=true backs up everything, then makes the smallest repair (add project=FOLDER, a build, where bootloader, table or app is damaged)",
        );
        return Ok(Some(connected));
    }
    if connected.is_encrypted(job)? {
        ladder.note("repair", false, "flash encryption is on: what is there cannot be judged or repaired from here");
        ladder.next("write encrypted images: esp_flash_encrypt");
        return Ok(Some(connected));
    }
    save(ctx, job, &mut connected, input, ladder)?;
    if input.repair {
        for change in repair::candidates(&mut connected, job, artefacts, ladder.console.as_ref())? {
            if !repair::would_help(&mut connected, job, &change)? {
                ladder.note(format!("repair {}", change.name), false, "the boot chain would stop all the same");
                continue;
            }
            let before = change.before(&mut connected, job)?;
            repair::write(&mut connected, job, &change)?;
            ladder.note(format!("repair {}", change.name), true, "written and verified");
            ladder.repaired.push(change.name.clone());
            match listen(ctx, job, url, connected, ladder)? {
                Some(again) => connected = again,
                None => return Ok(None),
            }
            if let Some(before) = before {
                repair::write(&mut connected, job, &before)?;
                ladder.note(format!("put {} back", change.name), true, "blanking it did not help");
                ladder.repaired.pop();
            }
        }
        ladder.next("nothing at hand lets it boot: esp_recover_chip repair=true project=FOLDER with a whole build, or erase_all=true as the last resort");
    }
    if input.erase_all {
        erase(ctx, job, &mut connected, input, artefacts, ladder)?;
        if !ladder.repaired.is_empty() {
            return listen(ctx, job, url, connected, ladder);
        }
    }
    Ok(Some(connected))
}

/// Everything into a folder, before the first byte is changed.
fn save(ctx: &Ctx, job: &Job, connected: &mut Connected, input: &In, ladder: &mut Ladder) -> Result<(), ToolError> {
    let dir = match (&input.backup_dir, &ladder.device) {
        (Some(dir), _) => dir.clone(),
        (None, Some(device)) => format!("{}/recover", keep::folder(device, None)),
        (None, None) => "esp-backup/recover".into(),
    };
    let manifest = backup::whole(ctx, job, connected, &dir)?;
    ladder.note("back up everything", true, manifest.clone());
    ladder.backup = Some(manifest);
    Ok(())
}

/// Seconds that the console is listened to.
const LISTEN_S: f64 = 6.0;

/// Starts the device and listens. It is connected again only where there is more to do: `None` leaves it as it is.
fn listen(
    ctx: &Ctx,
    job: &Job,
    url: &esp_link::port::PortUrl,
    connected: Connected,
    ladder: &mut Ladder,
) -> Result<Option<Connected>, ToolError> {
    let console = log::restart(connected, job, LISTEN_S)?;
    let good = console.verdict.is_good();
    ladder.note("start and listen", good, console.line());
    if !good {
        ladder.cause.get_or_insert_with(|| console.cause());
    }
    let verdict = console.verdict;
    ladder.console = Some(console);
    if good {
        ladder.verdict = Verdict::Recovered;
        return Ok(None);
    }
    if verdict == BootVerdict::DownloadMode {
        ladder.verdict = Verdict::NeedsHands;
        ladder.next("the boot pin stays low: release BOOT, look for what pulls it down, then press EN");
        return Ok(None);
    }
    ladder.verdict = Verdict::NeedsRepair;
    let way = ladder.way.clone().unwrap_or_else(|| ctx.options_for(url));
    match ctx.connect(url, way, job) {
        Ok(connected) => Ok(Some(connected)),
        Err(error) if line::ends_everything(&error) => Err(error),
        Err(error) => {
            ladder.note("connect again", false, error.message);
            ladder.verdict = Verdict::NeedsHands;
            ladder.next("hold BOOT, press and release EN, release BOOT, and call again");
            Ok(None)
        }
    }
}

/// The last resort, after a confirmation.
fn erase(
    ctx: &Ctx,
    job: &Job,
    connected: &mut Connected,
    input: &In,
    artefacts: &[files::Piece],
    ladder: &mut Ladder,
) -> Result<(), ToolError> {
    let mac = ladder.device.as_ref().and_then(|device| device.mac).map(|mac| mac.to_string()).unwrap_or_default();
    let hash: String = esp_model::hex::encode(Sha256::digest(format!("erase all of {mac}")));
    let Some(token) = &input.confirm_token else {
        let token =
            ctx.confirmations.offer_act(Act::Erase, &mac, &hash, "erase the whole flash", connected.is_virtual())?;
        ladder.plan = Some(hash.clone());
        ladder.confirm_token = Some(token);
        let approve = match connected.is_virtual() {
            true => String::new(),
            false => format!("after the user ran `mcp-esptool approve {hash}` in a terminal, "),
        };
        ladder
            .next(format!("erasing all removes everything on the device: {approve}call again with this confirm_token"));
        return Ok(());
    };
    ctx.confirmations.redeem(token, &mac, &hash)?;
    let partial = |error| ToolError::from(error).touched(FlashState::Partial);
    connected.loader.erase_all(job).map_err(partial)?;
    ladder.note("erase all", true, "the flash is blank");
    if artefacts.is_empty() {
        ladder.next(
            "the flash is blank: write a build with esp_flash_firmware, or put the backup back with esp_flash_restore",
        );
        return Ok(());
    }
    repair::write(connected, job, &repair::everything(artefacts)?)?;
    ladder.note("write the whole build", true, "written and verified");
    ladder.repaired.push("everything".into());
    Ok(())
}
