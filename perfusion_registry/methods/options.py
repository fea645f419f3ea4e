"""The options with which a concept is drawn in one prompt: from its own values and what each place sets.

Importing this needs no torch.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from perfusion_registry.errors import PerfError
from perfusion_registry.methods.settings import Setting, Settings, Value
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.suggestions import did_you_mean

if TYPE_CHECKING:
    from perfusion_registry.base import Mask


class MethodOptions(ABC):
    """The part of a method that makes of all that is set the options that apply.

    name: as `[concept] method` says it. draw_model: the options as they apply in one prompt. settings: what
    prompts, scenes and commands may set of these.
    """

    name: ClassVar[str]
    draw_model: ClassVar[type[FileModel]]
    settings: ClassVar[tuple[Setting, ...]] = ()

    def own_options(self, train: FileModel, render: FileModel, locked: Settings) -> FileModel:
        """The options, of `draw_model`, of a call of which nothing is set.

        train, render: of the card. locked: what the lockfile says of `render`, which goes before the card.
        """
        return self.draw_model.model_validate({**render.model_dump(exclude_none=True), **locked})

    def set_options(
        self, name: str, now: FileModel, named: Sequence[Settings], general: Sequence[Settings] = ()
    ) -> FileModel:
        """The options `now`, of `draw_model`, of the concept `name`, with what is set: each value comes from
        the first place that sets it.

        named: places that speak of this concept, such as its braces. general: the places after these, which
        may set what this concept does not have. All values are checked, and of this method's settings. Raises
        PerfError, without a place, for a named setting that cannot apply.
        """
        values = now.model_dump()
        for place in (*reversed(general), *reversed(named)):
            values |= place
        return self.draw_model.model_validate(values)

    def among(self, draw: FileModel, *, style: bool, others: int) -> FileModel:
        """The options, of `draw_model`, in a prompt that calls so many other things, beside a concept that is
        a style or not; here they are the same."""
        return draw

    def style_mistake(self, name: str, draw: FileModel) -> PerfError | None:
        """What keeps the concept `name`, a style, from being drawn with these options; None where nothing
        does. The error names no place."""
        return None

    def options_mistake(self, name: str, train: FileModel, draw: FileModel) -> PerfError | None:
        """What keeps the concept `name`, trained so, from being drawn with these options; None where nothing
        does. The error names no place.
        """
        return None

    def mask(self, render: FileModel) -> Mask:
        """Where the residual of a concept with these options, the card's `render`, applies: here, as beside
        an edit, the ramp. A build chooses the step by pictures that are drawn so."""
        return "ramp"

    def setting(self, key: str, name: str) -> Setting:
        """The setting that braces and commands call `key`, for the concept `name`. Raises PerfError, without
        a place, where there is none.
        """
        for setting in self.settings:
            if setting.key == key:
                return setting
        if not self.settings:
            raise PerfError(
                f"`{key}` is set for {name!r}, and a concept of the method `{self.name}` has no options",
                hint="leave it out",
            )
        keys = [setting.key for setting in self.settings]
        hint = did_you_mean(key, keys, f"the options are {', '.join(keys)}", form="{}")
        raise PerfError(f"{key!r} is no option of {name}*", hint=hint)

    def checked(self, settings: Mapping[str, Any], name: str) -> dict[str, Value]:
        """What a scene, a command or a program sets for the concept `name`, by field; None is left out.

        settings: by field or by key. Raises PerfError, without a place, for what cannot be set, and for a
        value that it cannot have.
        """
        fields = {setting.field: setting for setting in self.settings}
        checked: dict[str, Value] = {}
        for called, value in settings.items():
            if value is not None:
                setting = fields.get(called) or self.setting(called, name)
                checked[setting.field] = setting.check(value)
        return checked

    def applicable(self, settings: Mapping[str, Any], name: str) -> dict[str, Value]:
        """Of what is set for all concepts, what this method's have; raises as `checked` does."""
        own = {called for setting in self.settings for called in (setting.field, setting.key)}
        return self.checked({called: value for called, value in settings.items() if called in own}, name)

    def locked_settings(self, render: Mapping[str, Any], name: str) -> dict[str, Value]:
        """What the lockfile's `render` says of the options of the concept `name`."""
        return self.applicable(
            {field: value for field, value in render.items() if field in self.draw_model.model_fields}, name
        )

    def shown_settings(self, draw: FileModel) -> list[tuple[Setting, Value]]:
        """The settings that have a value in options of `draw_model`, in their order."""
        values = ((setting, getattr(draw, setting.field, None)) for setting in self.settings)
        return [(setting, value) for setting, value in values if value is not None]

    def has_setting(self, draw: FileModel, called: str) -> bool:
        """Whether a concept with options of `draw_model` has the setting of that key or field, so that
        another value of it would change something."""
        return any(called in (setting.key, setting.field) for setting, _ in self.shown_settings(draw))

    def summary(self, draw: FileModel, *, brief: bool = False) -> str:
        """Options of `draw_model` in a few words, empty where there are none. brief: without usual values."""
        return ", ".join(
            setting.phrase(value)
            for setting, value in self.shown_settings(draw)
            if not (brief and value == setting.usual)
        )

    def search_space(
        self, name: str, train: FileModel, now: FileModel, choices: Mapping[str, Sequence[Value]]
    ) -> list[FileModel]:
        """The options, of `draw_model`, that `perf tune` may choose from for the concept `name`, those to be
        preferred among equals first; none where there is nothing to choose, as here.

        now: the options at the start. choices: by field, what may be chosen of a setting; the method's own
        ranges where it says nothing. Raises PerfError where no option is left.
        """
        return []
