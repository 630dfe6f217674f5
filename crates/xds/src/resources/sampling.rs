//! Which requests get a span. Where the caller has decided already, its decision stands; the configured share is
//! of the traces that begin here.
//!
//! OpenTelemetry has samplers for this. For Zipkin Envoy decides by the request's `x-request-id`: below 100 %, a
//! request whose client sent an id that is no UUID has no span unless its caller traces it.

use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::RequestIdExtension;
use envoy_types::pb::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use envoy_types::pb::envoy::extensions::tracers::opentelemetry::samplers::v3::{
    ParentBasedSamplerConfig, TraceIdRatioBasedSamplerConfig,
};
use envoy_types::pb::envoy::r#type::v3::fractional_percent::DenominatorType;
use envoy_types::pb::envoy::r#type::v3::{FractionalPercent, Percent};
use envoy_types::util::pack_any;

use super::values::{boolean, extension};
use super::{Tracing, TracingProtocol};

const MILLION_PER_PERCENT: f64 = 10_000.0;

/// The share in percent; what is no share means everything.
fn percent(tracing: &Tracing) -> f64 {
    if tracing.sampling_percent.is_finite() { tracing.sampling_percent.clamp(0.0, 100.0) } else { 100.0 }
}

/// The share that Envoy itself is told.
pub(super) fn by_envoy(tracing: &Tracing) -> Percent {
    match tracing.protocol {
        TracingProtocol::OtlpGrpc | TracingProtocol::OtlpHttp => Percent { value: 100.0 },
        TracingProtocol::Zipkin => Percent { value: percent(tracing) },
    }
}

/// The share that OpenTelemetry's samplers are told.
pub(super) fn by_open_telemetry(tracing: &Tracing) -> TypedExtensionConfig {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to a million")]
    let numerator = (percent(tracing) * MILLION_PER_PERCENT) as u32;
    let share = FractionalPercent { numerator, denominator: DenominatorType::Million.into() };
    let own = TraceIdRatioBasedSamplerConfig { sampling_percentage: Some(share) };
    let own = extension("envoy.tracers.opentelemetry.samplers.trace_id_ratio_based", own);
    let parents = ParentBasedSamplerConfig { wrapped_sampler: Some(own) };
    extension("envoy.tracers.opentelemetry.samplers.parent_based", parents)
}

/// An id that the client sent is never changed, and decides whether there is a span only where nothing else can.
pub(super) fn request_id(tracing: Option<&Tracing>) -> RequestIdExtension {
    let decides = tracing.is_some_and(|tracing| by_envoy(tracing).value < 100.0);
    let config =
        UuidRequestIdConfig { pack_trace_reason: boolean(false), use_request_id_for_trace_sampling: boolean(decides) };
    RequestIdExtension { typed_config: Some(pack_any(config)) }
}
