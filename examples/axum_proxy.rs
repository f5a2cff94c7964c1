//! A proxy under axum that any client can be pointed at by its base URL. It asks itself three times and ends;
//! with `--serve` it stays and listens on `127.0.0.1:8788`.

mod support;

use thrifty::edge::FromHttp;
use thrifty::edge::reqwest::Exit;
use thrifty::stack::Stack;
use tower::Layer;

#[tokio::main]
async fn main() -> Result<(), thrifty::BoxError> {
    let provider = support::Provider::start().await?;
    let stack = Stack::builder().build()?;

    let exit = Exit::new(reqwest::Client::new()).with_origin(provider.origin.parse()?)?;
    let service = FromHttp::new(stack.layer(exit)).answering_errors();
    let app = axum::Router::new().fallback_service(service);

    let serve = std::env::args().any(|arg| arg == "--serve");
    let listener =
        tokio::net::TcpListener::bind(if serve { "127.0.0.1:8788" } else { "127.0.0.1:0" }).await?;
    let url = format!("http://{}/v1/chat/completions", listener.local_addr()?);
    if serve {
        println!("listening; post to {url}");
        return Ok(axum::serve(listener, app).await?);
    }
    tokio::spawn(async move { axum::serve(listener, app).await });
    for _ in 0..3 {
        let body = provider.ask("Name a prime above 10.");
        let request = reqwest::Client::new().post(&url).bearer_auth(&provider.key).body(body);
        let response = request.header("content-type", "application/json").send().await?;
        println!("{} {}", response.status(), support::head(&response.text().await?));
    }
    provider.tell();
    Ok(())
}
