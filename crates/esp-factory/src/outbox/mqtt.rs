//! Events as MQTT messages (3.1.1, quality of service 1: the broker confirms each).

use std::time::{Duration, Instant};

use rumqttc::{Client, Connection, Event, MqttOptions, Packet, QoS};

use super::{Message, Sink};

/// Longest wait for the broker's confirmation.
const PATIENCE: Duration = Duration::from_secs(20);

/// A topic of a broker. The connection is kept between events.
pub struct Mqtt {
    host: String,
    port: u16,
    topic: String,
    name: String,
    open: Option<(Client, Connection)>,
}

impl Mqtt {
    /// `mqtt://HOST[:PORT]/TOPIC`.
    pub fn new(url: &str) -> Result<Self, String> {
        let wrong = || format!("`{url}` is not mqtt://HOST:PORT/TOPIC");
        let (place, topic) = url.strip_prefix("mqtt://").and_then(|rest| rest.split_once('/')).ok_or_else(wrong)?;
        if place.contains('@') || topic.is_empty() || topic.contains(['#', '+']) {
            return Err(wrong());
        }
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
            None => (place, 1883),
        };
        Ok(Self { host: host.into(), port, topic: topic.into(), name: url.to_owned(), open: None })
    }

    fn connect(&self, station: &str) -> (Client, Connection) {
        let id = format!("mcp-esptool-{station}-{}", std::process::id());
        let mut options = MqttOptions::new(id, &self.host, self.port);
        options.set_keep_alive(Duration::from_secs(30));
        Client::new(options, 8)
    }

    fn publish(&self, open: &mut (Client, Connection), message: &Message) -> Result<(), String> {
        let (client, connection) = open;
        let sent = client.publish(&self.topic, QoS::AtLeastOnce, false, message.body.as_bytes());
        sent.map_err(|error| error.to_string())?;
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match connection.recv_timeout(left) {
                Ok(Ok(Event::Incoming(Packet::PubAck(_)))) => return Ok(()),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error.to_string()),
                Err(_) => return Err(format!("the broker did not confirm within {} s", PATIENCE.as_secs())),
            }
        }
    }
}

impl Sink for Mqtt {
    fn name(&self) -> &str {
        &self.name
    }

    fn deliver(&mut self, message: &Message) -> Result<(), String> {
        let mut open = self.open.take().unwrap_or_else(|| self.connect(&message.station));
        self.publish(&mut open, message)?;
        // After a failure the connection is dropped: a fresh one has nothing in flight.
        self.open = Some(open);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_host_port_and_topic() {
        let made = Mqtt::new("mqtt://broker.local/factory/line-3").unwrap();
        assert_eq!((made.host.as_str(), made.port, made.topic.as_str()), ("broker.local", 1883, "factory/line-3"));
        assert_eq!(Mqtt::new("mqtt://127.0.0.1:18830/a").unwrap().port, 18830);
        for wrong in
            ["mqtt://host", "mqtt://host/", "http://host/a", "mqtt://host:x/a", "mqtt://host/a/#", "mqtt://u:p@host/a"]
        {
            assert!(Mqtt::new(wrong).is_err(), "{wrong}");
        }
    }
}
