"""Settings of the measurement protocol, as a spec names them. Light: no numpy, no torch."""

from pydantic import Field

from perf_assets.workspace.validation import StrictModel


class Settings(StrictModel):
    """Limits of the protocol; times are wall time of what is measured."""

    min_blocks: int = Field(default=20, ge=1)
    max_blocks: int = Field(default=640, ge=1)
    min_time_s: float = Field(default=0.5, ge=0)
    max_time_s: float = Field(default=10.0, gt=0)
    warmup_max_s: float = Field(default=5.0, ge=0)
    steady_blocks: int = Field(default=3, ge=1)
    steady_tolerance: float = Field(default=0.10, gt=0)
    timer_share: float = Field(
        default=0.001, gt=0, description="largest share of a block for reading the clock"
    )
    target_width: float = Field(
        default=0.005, ge=0, description="stop once half the interval is below this share; 0: never"
    )
    warmup_steps: int | None = Field(
        default=None, ge=0, description="exactly so many steps before; None: until steady"
    )
    measured_steps: int | None = Field(
        default=None, ge=1, description="exactly so many blocks of one step; None: until the limits say"
    )
    confidence: float = Field(default=0.95, gt=0, lt=1)
