"""Rate limits: a container's bandwidth settings as qdiscs on the host's end of its link.

What the container receives is shaped (packets wait); what it sends is policed (packets over the
rate are dropped), since the host can only queue what it sends itself. TCP lives with both.
"""

from __future__ import annotations

from netloom.model.endpoint import Bandwidth
from netloom.model.kernel import Qdisc

#: Without a burst in the settings: as many bytes as the rate lets through in this time.
_DEFAULT_BURST_S = 0.1
#: A bucket smaller than one segment-offload packet would let none of them through, ever.
_LEAST_BURST_BYTES = 128 * 1024
#: A faster limit would limit nothing, and nft's counters overflow at 147 Gbit/s.
_FASTEST_BPS = 100_000_000_000
#: The kernel counts a token bucket's depth in 64 ns ticks of 32 bits, which end at 274 s; nft's
#: burst has 32 bits.
_LONGEST_BURST_S = 250
_LARGEST_BURST_BYTES = (1 << 32) - 1
#: tc keeps a depth as whole microseconds of the rate, the kernel as ticks of 64 ns: both are whole
#: numbers at every 8th microsecond. Where bytes are the coarser measure, 8 of them are one step.
_STEP_US = 8
_STEP_BYTES = 8


def qdiscs(link: str, bandwidth: Bandwidth) -> list[Qdisc]:
    """Return the qdiscs for the host's end ``link`` of a container with these limits."""
    wanted = (
        ("egress", bandwidth.ingress_rate_bps, bandwidth.ingress_burst_bits),
        ("ingress", bandwidth.egress_rate_bps, bandwidth.egress_burst_bits),
    )
    return [
        settled(Qdisc(link, direction, rate, _burst_bytes(rate, burst_bits)))
        for direction, asked_bps, burst_bits in wanted
        if (rate := min(asked_bps, _FASTEST_BPS))
    ]


def settled(qdisc: Qdisc) -> Qdisc:
    """Return the nearest qdisc that the kernel can hold and report without rounding.

    Settling twice changes nothing, and a value that tc rounded on its way back settles to the one
    that was asked for: so a desired and an actual limit compare equal.
    """
    rate = max(qdisc.rate_bps // 8, 1)
    # Rounded up: a step must be no fewer bytes than what tc may lose on the way back.
    step_us = _STEP_US * -(-_STEP_BYTES * 1_000_000 // (rate * _STEP_US))
    most = min(_LONGEST_BURST_S * 1_000_000, _LARGEST_BURST_BYTES * 1_000_000 // rate) // step_us
    steps = min(max(round(qdisc.burst_bytes * 1_000_000 / rate / step_us), 1), most)
    return Qdisc(qdisc.link, qdisc.direction, rate * 8, rate * steps * step_us // 1_000_000)


def _burst_bytes(rate_bps: int, burst_bits: int) -> int:
    burst = burst_bits // 8 if burst_bits else int(rate_bps / 8 * _DEFAULT_BURST_S)
    return min(max(burst, _LEAST_BURST_BYTES), _LARGEST_BURST_BYTES)
