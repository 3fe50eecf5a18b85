# SPDX-License-Identifier: Apache-2.0
"""The page on which a node is taken out of the cluster: its name is typed once more, then the door does it."""

from __future__ import annotations

from urllib.parse import quote

from console import rights
from console.pages.look import checked_name
from console.pages.work import Acting, new_key
from console.views import jobs, removal
from console.views.hosts import Faults
from console.views.removal import Removal


class RemoveNode(Acting):
    """One node that is to leave."""

    def way_back(self) -> str:
        """Come back to the form, with all that was typed but secrets and the name."""
        if self.request.method == "GET":
            return self.request.uri or "/"
        typed = self._typed(checked_name(self.path_args[0]))
        return f"/nodes/{quote(typed.name, safe='')}/remove?{typed.to_query()}"

    async def get(self, quoted: str) -> None:
        """Write the form; the name is never in it already."""
        await self._form(self._typed(checked_name(quoted)), Faults())

    async def post(self, quoted: str) -> None:
        """Start the job."""
        typed = self._typed(checked_name(quoted))
        faults = removal.check(typed)
        if faults:
            await self._form(typed, faults)
            return
        found = await self.act(
            "start",
            operation="remove-node",
            parameters=typed.parameters(),
            key=self.form_key(),
            secrets=self.typed_secrets(),
        )
        if found is not None:
            self.redirect(f"/jobs/{quote(str(found.get('job', '')), safe='')}", status=303)

    def _typed(self, name: str) -> Removal:
        keys = removal.KEPT if self.request.method == "GET" else ("confirm", *removal.KEPT)
        return removal.removal_of(name, {key: self.field(key)[:300] for key in keys})

    async def _form(self, typed: Removal, faults: Faults) -> None:
        sources = await self.sources()
        if faults:
            self.set_status(422)
        self.show(
            "node-remove.html",
            sources,
            title=f"Remove node {typed.name}",
            every_s=60,
            typed=typed,
            faults=faults.by_field,
            allowed=jobs.button(sources, rights.REMOVE_NODE, f"Remove {typed.name}", "remove"),
            key=new_key(),
        )
