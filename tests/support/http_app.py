"""An aiohttp application on a free port of this machine."""

from aiohttp import web


async def serve(app: web.Application, **options: bool) -> tuple[web.AppRunner, str]:
    """Start it; `options` are the runner's. To stop it, await the runner's `cleanup`. The second is its URL."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0, **options)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    return runner, f"http://{host}:{port}"
