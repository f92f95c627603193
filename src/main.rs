//! `viaduct`: arguments, configuration, logging and signals around [`viaduct::server`].

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use viaduct::config::Config;
use viaduct::server::{self, Server, WorkerArguments};

/// A multi-protocol media gateway: telephones, RTMP, WHIP and WHEP in the same room.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file; without it every key has its default.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Set a key of the configuration, such as http.listen=0.0.0.0:8080.
    #[arg(long = "set", value_name = "KEY=VALUE", global = true)]
    sets: Vec<String>,
    /// Serve pages over HTTPS with a self-signed certificate, made once and kept in state_dir.
    #[arg(long)]
    dev: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Say whether a configuration is right, without starting.
    Check { file: PathBuf },
    /// Turn a phone's password, read from standard input, into its line of `sip.users_file`.
    HashPassword(server::Password),
    /// Be a worker of a mediasoup 2 server, as a link called mediasoup-worker to this program is.
    Worker(WorkerArguments),
    /// Measure what a packet costs, with WHEP viewers against a server in a process of its own.
    Bench(Box<viaduct::bench::Options>),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse_from(server::arguments(std::env::args_os()));
    let (file, worker, check) = match arguments.command {
        Some(Command::Bench(options)) => return end(viaduct::bench::run(&options)),
        Some(Command::HashPassword(password)) => return end(password.run()),
        Some(Command::Check { file }) => (Some(file), None, true),
        Some(Command::Worker(worker)) => (arguments.config, Some(worker), false),
        None => (arguments.config, None, false),
    };
    let env = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    let config = Config::load(file.as_deref(), env, &arguments.sets).map_err(anyhow::Error::from);
    end(config.and_then(|config| match worker {
        Some(worker) => worker.run(config),
        None if check => server::say_ok(),
        None => server::with_runtime(&config.log, Server::run(config.clone(), arguments.dev)),
    }))
}

fn end(result: anyhow::Result<()>) -> ExitCode {
    result
        .inspect_err(|error| eprintln!("viaduct: {error:#}"))
        .map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}
