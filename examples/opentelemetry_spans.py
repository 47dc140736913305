"""Create a span for each attempt of each call, as a child of the caller's span.

ADAPTY_API_KEY=... python examples/opentelemetry_spans.py CUSTOMER_USER_ID
"""

import asyncio
import sys
import time

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from adapty_async import AdaptyClient, Attempt

tracer = trace.get_tracer("adapty")


def record(attempt: Attempt) -> None:
    """Create a span for an attempt that has just ended. It contains no ID, key or body."""
    ended = time.time_ns()
    span = tracer.start_span(
        attempt.method,
        kind=trace.SpanKind.CLIENT,
        start_time=ended - int(attempt.elapsed * 1e9),
        attributes={
            "http.request.method": attempt.method,
            "url.path": attempt.path,
            "http.request.resend_count": attempt.number - 1,
        },
    )
    if attempt.status is not None:
        span.set_attribute("http.response.status_code", attempt.status)
    if attempt.error is not None:
        span.set_attribute("error.type", attempt.error)
        span.set_status(trace.StatusCode.ERROR)
    span.end(ended)


async def main(customer_user_id: str) -> None:
    """Get one profile with tracing."""
    async with AdaptyClient.from_env(on_attempt=record) as client:
        with tracer.start_as_current_span("show access"):
            await client.profiles.get(customer_user_id=customer_user_id)


if __name__ == "__main__":
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
    trace.set_tracer_provider(provider)
    asyncio.run(main(sys.argv[1]))
