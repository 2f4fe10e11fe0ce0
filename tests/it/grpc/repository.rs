//! Statistics, configuration, index, load and unload.

use tonic::Code;

use super::{connect, numbers, pb, refused, rows, runtime, with};
use crate::gateway::{start, start_with};

const ON: (&str, &str) = ("repository.load_unload", "on");
const TOKEN: &str = "0123456789abcdef";

fn unload() -> pb::RepositoryModelUnloadRequest {
    pb::RepositoryModelUnloadRequest { model_name: "m".to_owned(), ..Default::default() }
}

fn load(name: &str) -> pb::RepositoryModelLoadRequest {
    pb::RepositoryModelLoadRequest { model_name: name.to_owned(), ..Default::default() }
}

#[test]
fn a_model_is_unloaded_and_loaded_again() {
    let gateway = start_with("", &["answers 1", "answers 2"], &[ON]);
    runtime().block_on(async {
        let mut client = connect(&gateway).await;
        let ready = || pb::RepositoryIndexRequest { ready: true, ..Default::default() };
        let index = client.repository_index(ready()).await.unwrap().into_inner().models;
        let lines: Vec<_> =
            index.iter().map(|m| (&m.name[..], &m.version[..], &m.state[..])).collect();
        assert_eq!(lines, [("m", "1", "READY"), ("m", "2", "READY")]);
        client.repository_model_unload(unload()).await.unwrap();
        // From the answer on, nobody is answered by it.
        refused(client.model_infer(rows(&[1.0])).await, Code::NotFound);
        let index = client.repository_index(ready()).await.unwrap().into_inner().models;
        assert_eq!(index, []);
        client.repository_model_load(load("m")).await.unwrap();
        let reply = client.model_infer(rows(&[1.0])).await.unwrap().into_inner();
        assert_eq!((reply.model_version.as_str(), numbers(&reply)), ("2", vec![2.0]));
        let ask = pb::ModelStatisticsRequest { name: "m".to_owned(), version: "2".to_owned() };
        let stats = client.model_statistics(ask).await.unwrap().into_inner().model_stats;
        assert_eq!((stats.len(), stats[0].inference_count, stats[0].execution_count), (1, 1, 1));
        let counted = stats[0].inference_stats.unwrap();
        assert_eq!((counted.success.unwrap().count, counted.fail.unwrap().count), (1, 0));
        assert!(counted.compute_infer.unwrap().ns > 0);
        let all = client.model_statistics(pb::ModelStatisticsRequest::default()).await.unwrap();
        assert_eq!(all.into_inner().model_stats.len(), 2);
    });
    gateway.app.stop();
}

#[test]
fn only_those_who_may_load_and_unload() {
    let closed = start("", &["answers 1"]);
    let guarded = start_with("", &["answers 1"], &[ON, ("admin.token", TOKEN)]);
    runtime().block_on(async {
        let mut client = connect(&closed).await;
        let message =
            refused(client.repository_model_unload(unload()).await, Code::PermissionDenied);
        assert!(message.contains("load_unload"), "{message}");
        let mut client = connect(&guarded).await;
        refused(client.repository_model_unload(unload()).await, Code::Unauthenticated);
        let bearer = format!("Bearer {TOKEN}");
        let nobody = with(load("nobody"), &[("authorization", &bearer)]);
        refused(client.repository_model_load(nobody).await, Code::NotFound);
        let mut replaced = load("m");
        replaced.parameters.insert("config".to_owned(), pb::ModelRepositoryParameter::default());
        let replaced = with(replaced, &[("authorization", &bearer)]);
        let message = refused(client.repository_model_load(replaced).await, Code::InvalidArgument);
        assert!(message.contains("\"config\""), "{message}");
        let allowed = with(unload(), &[("authorization", &bearer)]);
        client.repository_model_unload(allowed).await.unwrap();
    });
    for gateway in [closed, guarded] {
        gateway.app.stop();
    }
}
