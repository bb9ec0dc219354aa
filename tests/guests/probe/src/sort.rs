//! A small piece of honest work: read JSON, check it, sort it, write JSON.

use serde::{Deserialize, Serialize};

use crate::http::Exchange;

#[derive(Clone, Serialize, Deserialize)]
struct Item {
    id: u32,
    name: String,
    price: f64,
    tags: Vec<String>,
}

impl Item {
    fn problem(&self) -> Option<&'static str> {
        if self.id == 0 {
            return Some("id must not be 0");
        }
        if self.name.is_empty() || self.name.len() > 64 {
            return Some("name must have 1 to 64 bytes");
        }
        if !self.price.is_finite() || self.price < 0.0 {
            return Some("price must not be negative");
        }
        if self.tags.len() > 8 {
            return Some("there may be 8 tags at most");
        }
        None
    }
}

/// Twenty items in no order, as the text that a caller could have sent.
fn built_in() -> Vec<u8> {
    let items: Vec<Item> = (0..20_u32)
        .map(|n| {
            let mixed = (n * 7 + 3) % 20;
            Item {
                id: n + 1,
                name: format!("item {mixed}"),
                price: f64::from((mixed * 37) % 50) + 0.5,
                tags: vec!["wind".to_owned(), format!("t{}", mixed % 4)],
            }
        })
        .collect();
    serde_json::to_vec(&items).expect("items are JSON")
}

/// Sorts by price and then by name.
pub(crate) fn sort(exchange: Exchange) {
    let mut text = exchange.read_body();
    if text.is_empty() {
        text = built_in();
    }
    let mut items: Vec<Item> = match serde_json::from_slice(&text) {
        Ok(items) => items,
        Err(error) => return exchange.text(400, &format!("{error}\n")),
    };
    if let Some((item, problem)) =
        items.iter().find_map(|item| item.problem().map(|problem| (item.id, problem)))
    {
        return exchange.text(422, &format!("item {item}: {problem}\n"));
    }
    items.sort_by(|a, b| a.price.total_cmp(&b.price).then_with(|| a.name.cmp(&b.name)));
    exchange.json(200, &items);
}
