//! Talks to Espressif chips over a [`esp_model::port::Port`].
