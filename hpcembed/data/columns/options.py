"""Settings of the encoding of columns: the keys of tables in the section [data] of a job."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hpcembed.data.columns.cells import missing_marks
from hpcembed.runtime.errors import ConfigError

if TYPE_CHECKING:
    from hpcembed.data.settings import DataSettings

__all__ = ["KINDS", "ColumnOptions", "column_options"]

#: Values of data.columns. The first four are the kinds of encoded columns; the next four also state
#: how a number or a date is written.
KINDS = (
    *("number", "boolean", "date", "category"),
    *("decimal_point", "decimal_comma", "day_first", "month_first"),
    "drop",
)


@dataclass(frozen=True, slots=True)
class ColumnOptions:
    """How columns become numbers.

    Attributes
    ----------
    kinds : mapping of str to str
        Kind of a column, one of :data:`KINDS`, in place of the one that its cells imply.
    drop : tuple of str
        Columns that are left out.
    missing : tuple of str
        Texts that mean "missing", in addition to
        :data:`~hpcembed.data.columns.cells.DEFAULT_MISSING`.
    categories : {"auto", "one_hot", "ordinal"}
        auto: one column per level up to `one_hot_limit` levels, else one column.
    one_hot_limit : int
    gaps : {"impute", "refuse"}
        Missing cells get the median of the training rows, or are an error.
    """

    kinds: Mapping[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    categories: str = "auto"
    one_hot_limit: int = 30
    gaps: str = "impute"

    @property
    def marks(self) -> frozenset[str]:
        """All texts that mean "missing", in small letters."""
        return missing_marks(self.missing)

    @property
    def are_explicit(self) -> bool:
        """Whether a setting names columns or texts, so that numbers alone are encoded too."""
        return bool(self.kinds or self.drop or self.missing)

    @property
    def dropped(self) -> frozenset[str]:
        """Names of the columns that the settings leave out."""
        return frozenset([*self.drop, *(n for n, kind in self.kinds.items() if kind == "drop")])

    def check(self, names: Collection[str], source: str) -> None:
        """Raise ConfigError if a setting names a column that does not exist."""
        for key, given in (("columns", self.kinds), ("drop_columns", self.drop)):
            for name in given:
                if name not in names:
                    shown = ", ".join(list(names)[:20])
                    raise ConfigError(
                        f"data.{key}: {source} has no feature column {name!r}; it has {shown}"
                    )


def column_options(config: DataSettings) -> ColumnOptions:
    """Return the settings of columns of a section [data]."""
    return ColumnOptions(
        config.columns,
        config.drop_columns,
        config.missing,
        config.categories,
        config.one_hot_limit,
        config.gaps,
    )
