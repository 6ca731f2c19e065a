//! What the owner's files of regions and networks tell of an address.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use super::Door;
use super::problem::Problem;
use crate::visitor::region::Country;

pub(super) async fn show(
    State(door): State<Arc<Door>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let query = query.unwrap_or_default();
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    let address = pairs.find(|(name, _)| name == "address");
    let address = address.and_then(|(_, text)| text.parse::<IpAddr>().ok());
    let Some(address) = address else {
        let detail = "write an IP address: /v1/region?address=203.0.113.7";
        return Err(Problem::input("address", detail));
    };
    let address = address.to_canonical();
    let place = door.reception.wanted.load().regions.place(address);
    let document = json!({
        "address": address.to_string(),
        "country": place.country.and_then(Country::code),
        "subdivision": place.subdivision,
        "asn": place.asn,
        "network": place.organization,
    });
    Ok(super::json(StatusCode::OK, &document))
}
