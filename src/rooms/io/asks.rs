//! What sessions ask of the room, carried out: each request a future of its connection's task, begun in the order
//! in which they were asked.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::core::control::Peer;
use crate::rooms::error::Refusal;
use crate::rooms::session::asks::{Answer, Ask};
use crate::rooms::session::{Answered, AskId};

/// A request under way.
type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Requests under way.
pub(super) struct Asks<T>(Vec<(AskId, Pending<T>)>);

impl<T> Asks<T> {
    pub fn new() -> Self {
        Asks(Vec::new())
    }

    pub fn push(&mut self, id: AskId, work: impl Future<Output = T> + Send + 'static) {
        self.0.push((id, Box::pin(work)));
    }

    /// The next that is done.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<(AskId, T)> {
        // From the first on: a request reaches its worker when it is polled first.
        for place in 0..self.0.len() {
            let Some((id, work)) = self.0.get_mut(place) else { break };
            let id = *id;
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                drop(self.0.remove(place));
                return Poll::Ready((id, done));
            }
        }
        Poll::Pending
    }
}

/// Carries out a request of somebody who is in the room.
pub(super) async fn perform(peer: Peer, ask: Ask) -> Answered {
    let done = |()| Answer::Done;
    let result = match ask {
        Ask::CreateTransport(options) => peer.create_webrtc_transport(options).await.map(Answer::Transport),
        Ask::ConnectTransport(transport, role, fingerprints) => {
            peer.connect_webrtc(transport, role, fingerprints, None).await.map(Answer::Role)
        }
        Ask::RestartIce(transport) => peer.restart_ice(transport).await.map(Answer::Ice),
        Ask::CloseTransport(transport) => peer.close_transport(transport).await.map(done),
        Ask::TransportStats(transport) => peer.transport_stats(transport).await.map(Answer::Value),
        Ask::Produce(transport, track) => peer.produce(transport, track).await.map(Answer::Producer),
        Ask::CloseProducer(producer) => peer.close_producer(producer).await.map(done),
        Ask::PauseProducer(producer) => peer.pause_producer(producer).await.map(done),
        Ask::ResumeProducer(producer) => peer.resume_producer(producer).await.map(done),
        Ask::ProducerStats(producer) => peer.producer_stats(producer).await.map(Answer::Value),
        Ask::Consume { transport, track, rtp, paused } => {
            let consumed = peer.consume(transport, track, rtp, paused).await;
            consumed.map(|consumed| Answer::Consumed(Box::new(consumed)))
        }
        Ask::CloseConsumer(consumer) => peer.close_consumer(consumer).await.map(done),
        Ask::PauseConsumer(consumer) => peer.pause_consumer(consumer).await.map(done),
        Ask::ResumeConsumer(consumer) => peer.resume_consumer(consumer).await.map(done),
        Ask::PreferProfile(consumer, profile) => {
            peer.set_preferred_profile(consumer, profile).await.map(done)
        }
        Ask::PreferLayers(consumer, spatial, temporal) => {
            peer.set_preferred_layers(consumer, spatial, temporal).await.map(done)
        }
        Ask::SetPriority(consumer, priority) => peer.set_priority(consumer, priority).await.map(done),
        Ask::RequestKeyframe(consumer) => peer.request_keyframe(consumer).await.map(done),
        Ask::ConsumerStats(consumer) => peer.consumer_stats(consumer).await.map(Answer::Value),
        Ask::Announce(name, app_data) => peer.announce(name, app_data).map(done),
        Ask::ProduceData { transport, parameters, label, protocol, app_data } => {
            let made = peer.produce_data(transport, parameters, label, protocol, app_data).await;
            made.map(Answer::DataProducer)
        }
        Ask::CloseDataProducer(producer) => peer.close_data_producer(producer).await.map(done),
        Ask::DataProducerStats(producer) => peer.data_producer_stats(producer).await.map(Answer::Value),
        Ask::ConsumeData(transport, producer) => {
            let consumed = peer.consume_data(transport, producer).await;
            consumed.map(|consumed| Answer::DataConsumed(Box::new(consumed)))
        }
        Ask::CloseDataConsumer(consumer) => peer.close_data_consumer(consumer).await.map(done),
        Ask::DataConsumerStats(consumer) => peer.data_consumer_stats(consumer).await.map(Answer::Value),
        Ask::Rename(name) => peer.rename(name).await.map(done),
        // Its connection sees to these.
        Ask::Join(_) | Ask::Leave => return Err(Refusal::new(500, "asked in the wrong place")),
    };
    result.map_err(Refusal::from)
}
