//! Asks the user, in the same call, before something irreversible: by `input_required` in the revision without
//! sessions, by elicitation in older ones. The user types the end of the device's MAC address: a bare yes is no
//! confirmation, and whoever types it has the right device in mind. The question never contains these digits.
//!
//! A client could answer by itself. On real devices the answer therefore approves only where a policy file says
//! `approval = "client"`; otherwise nobody is asked here, and the plan goes back with the command for a terminal.

use esp_ops::error::{Code, ToolError};
use esp_ops::guard::confirm::Act;
use rmcp::model::{
    ClientResult, ElicitRequest, ElicitRequestParams, ElicitResult, ElicitationAction, ElicitationSchema, ErrorData,
    InputRequest, InputRequests, InputRequiredResult, InputResponses, ProtocolVersion, ServerRequest,
};
use rmcp::service::{RequestContext, RoleServer};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ctx::Ctx;
use crate::tool::Reply;

/// The one question.
const QUESTION: &str = "confirm";
/// The one field of its form.
const FIELD: &str = "mac_end";

/// How a client's user can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The answer is a result that asks; the client calls again.
    Return,
    /// A request to the client while the call waits.
    Ask,
}

/// How this client's user can be asked; `None` when the client shows no forms.
pub(super) fn way(context: &RequestContext<RoleServer>) -> Option<Way> {
    let elicitation = context.client_capabilities()?.elicitation?;
    if elicitation.form.is_none() && elicitation.url.is_some() {
        return None;
    }
    let stateless = context.protocol_version().is_some_and(|version| version >= ProtocolVersion::V_2026_07_28);
    Some(if stateless { Way::Return } else { Way::Ask })
}

/// A plan that waits for the user.
#[derive(Debug, Clone)]
pub(super) struct Question {
    text: String,
    state: State,
    act: Act,
}

/// What comes back with the second call. The token is worth nothing for another plan or device, so that a changed
/// state confirms nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    plan: String,
    token: String,
}

/// What a second call amounts to.
pub(super) enum Resumed {
    /// The user has confirmed; the token is among the parameters.
    Confirmed,
    /// There was no answer to the question.
    AskAgain(Question),
    /// The user declined, or did not name the device.
    Refused(ToolError),
}

impl Question {
    /// The question that a planned, unconfirmed act raises.
    pub(super) fn of(ctx: &Ctx, reply: &Reply) -> Option<Self> {
        let text = |name: &str| reply.data.get(name).and_then(Value::as_str);
        let (plan, token) = (text("plan")?, text("confirm_token")?);
        Self::again(ctx, State { plan: plan.into(), token: token.into() }, reply.data.get("becomes_impossible"))
    }

    fn again(ctx: &Ctx, state: State, lost: Option<&Value>) -> Option<Self> {
        let (_, offer) = ctx.confirmations.find(&state.plan).ok()?;
        if !ctx.policy.client_approves(offer.is_virtual) {
            return None;
        }
        let kind = if offer.is_virtual { "virtual device" } else { "device" };
        let mac = masked(&offer.mac);
        let mut text = match offer.act {
            Act::Burn => format!("Burn eFuses of the {kind} {mac}: {}. This cannot be undone.", offer.about),
            Act::Erase => format!("On the {kind} {mac}: {}. This cannot be undone.", offer.about),
            Act::Lock => {
                let text =
                    format!("Lock this recipe for production on real devices (hash {}): {}", state.plan, offer.about);
                return Some(Self { text, state, act: offer.act });
            }
        };
        let lost: Vec<&str> = lost.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        if !lost.is_empty() {
            text += &format!(" Afterwards impossible: {}.", lost.join("; "));
        }
        let text = text.replace(&offer.mac, &mac);
        Some(Self { text, state, act: offer.act })
    }

    fn form(&self) -> Result<ElicitRequestParams, ErrorData> {
        let (title, about, shortest, longest) = match self.act {
            Act::Lock => ("Name of the recipe", "The recipe's name, to confirm", 1, 200),
            Act::Burn | Act::Erase => {
                let about = "The last four hex digits of the device's MAC address, to confirm";
                ("End of the MAC address", about, 4, 17)
            }
        };
        let schema = ElicitationSchema::builder().required_string_property(FIELD, |field| {
            field.title(title).description(about).min_length(shortest).max_length(longest)
        });
        let requested_schema = schema.build().map_err(|error| ErrorData::internal_error(error, None))?;
        Ok(ElicitRequestParams::FormElicitationParams { meta: None, message: self.text.clone(), requested_schema })
    }

    /// The result that asks.
    pub(super) fn as_result(&self) -> Result<InputRequiredResult, ErrorData> {
        let request = InputRequest::Elicitation(ElicitRequest::new(self.form()?));
        let state =
            serde_json::to_string(&self.state).map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        Ok(InputRequiredResult::new(Some(InputRequests::from([(QUESTION.to_string(), request)])), Some(state)))
    }

    /// Asks the client and waits. `false` when the question did not arrive.
    pub(super) async fn ask(&self, ctx: &Ctx, context: &RequestContext<RoleServer>) -> Result<bool, ToolError> {
        let Ok(form) = self.form() else { return Ok(false) };
        let asked = context.peer.send_request(ServerRequest::ElicitRequest(ElicitRequest::new(form)));
        let answered = tokio::select! {
            answered = asked => answered,
            () = context.ct.cancelled() => return Err(ToolError::new(Code::Cancelled, "the call was cancelled")),
        };
        match answered {
            Ok(ClientResult::ElicitResult(result)) => self.judge(ctx, &result).map(|()| true),
            Ok(_) => Ok(false),
            Err(error) => {
                tracing::warn!("the user could not be asked: {error}");
                Ok(false)
            }
        }
    }

    /// The user's answer confirms the plan, or says why not.
    fn judge(&self, ctx: &Ctx, result: &ElicitResult) -> Result<(), ToolError> {
        if result.action != ElicitationAction::Accept {
            ctx.confirmations.withdraw(&self.state.plan);
            return Err(ToolError::new(Code::NotConfirmed, "the user declined")
                .next("nothing was burned; do not try again unless the user asks for it"));
        }
        let (_, offer) = ctx.confirmations.find(&self.state.plan)?;
        if !ctx.policy.client_approves(offer.is_virtual) {
            return Err(only_in_a_terminal(&self.state.plan));
        }
        let typed = result.content.as_ref().and_then(|content| content.get(FIELD)).and_then(Value::as_str);
        let offer = ctx.confirmations.approve(&self.state.plan, typed.unwrap_or_default().trim())?;
        ctx.audit.append(json!({ "event": "approved", "mac": offer.mac, "plan": self.state.plan }))
    }

    /// Adds the token to the parameters of the second call.
    pub(super) fn confirm(&self, input: &mut Value) {
        if let Some(fields) = input.as_object_mut() {
            fields.insert("confirm_token".into(), self.state.token.clone().into());
        }
    }
}

fn only_in_a_terminal(plan: &str) -> ToolError {
    let text = "an MCP client's answer does not approve this plan: the policy does not say approval = \"client\"";
    let next = format!("ask the user to run `mcp-esptool approve {plan}` in a terminal, then call with confirm_token");
    ToolError::new(Code::NotConfirmed, text).next(next)
}

/// The address without its last four digits, which prove that a person looked at the device.
fn masked(mac: &str) -> String {
    let hidden = mac.chars().rev().filter(char::is_ascii_hexdigit).count().min(4);
    let mut left = hidden;
    let letters = mac.chars().rev().map(|letter| match left {
        0 => letter,
        _ if letter.is_ascii_hexdigit() => {
            left -= 1;
            '*'
        }
        _ => letter,
    });
    letters.collect::<Vec<_>>().into_iter().rev().collect()
}

/// Takes up a call that comes back with the user's answer.
pub(super) fn resume(ctx: &Ctx, state: &str, responses: Option<InputResponses>, input: &mut Value) -> Resumed {
    let unknown = || ToolError::new(Code::NotConfirmed, "the request state does not belong to a plan that waits");
    let Ok(state) = serde_json::from_str::<State>(state) else { return Resumed::Refused(unknown()) };
    if let Ok((plan, offer)) = ctx.confirmations.find(&state.plan)
        && !ctx.policy.client_approves(offer.is_virtual)
    {
        return Resumed::Refused(only_in_a_terminal(&plan));
    }
    let Some(question) = Question::again(ctx, state, None) else { return Resumed::Refused(unknown()) };
    let given = responses.and_then(|mut responses| responses.remove(QUESTION));
    let Some(result) = given.and_then(|value| serde_json::from_value::<ElicitResult>(value).ok()) else {
        return Resumed::AskAgain(question);
    };
    match question.judge(ctx, &result) {
        Ok(()) => {
            question.confirm(input);
            Resumed::Confirmed
        }
        Err(error) => Resumed::Refused(error),
    }
}
