"""rust_project.py ROOT KERNEL_JSON: prints rust-project.json: the kernel's crates as the kernel's own script gives them,
with paths that start at ROOT, and ours as Kbuild declares them."""
import json
import os
import re
import sys


def variables(text):
    """The plain variables of Kbuild: name -> value."""
    return {m[1]: m[2].strip() for m in re.finditer(r"^(\w+) :?= (.*(?:\\\n.*)*)", text.replace("\\\n", " "), re.M)}


def expand(text, names):
    while True:
        new = re.sub(r"\$\((\w+)\)", lambda m: names.get(m[1], ""), text)
        if new == text:
            return new
        text = new


def main():
    root, kernel = sys.argv[1:]
    with open(kernel) as f:
        project = json.load(f)
    inside = re.compile(r"^/(opt|usr)(/|$)")

    def outside(value):
        if isinstance(value, str):
            return root + value if inside.match(value) else value
        if isinstance(value, list):
            return [outside(v) for v in value]
        if isinstance(value, dict):
            return {k: outside(v) for k, v in value.items()}
        return value

    # The kernel's modules have no place here, only its crates.
    project = outside(project)
    crates = project["crates"]
    index = {c["display_name"]: i for i, c in enumerate(crates)}
    base = [{"crate": index[n], "name": n} for n in ("core", "kernel", "pin_init", "ffi", "macros") if n in index]
    like = crates[index["kernel"]]
    with open("Kbuild") as f:
        text = f.read().replace("\\\n", " ")
    text = expand(text, variables(text))
    for m in re.finditer(r"^\$\(eval \$\(call crate,([^,)]*),?([^)]*)\)\)$", text, re.M):
        path, deps = m[1].strip(), m[2].split()
        name = os.path.basename(path)
        index[name] = len(crates)
        crates.append({
            "display_name": name,
            "root_module": os.path.abspath(path + ".rs"),
            "is_workspace_member": True,
            "is_proc_macro": False,
            # A dependency that is not declared above it is an error of Kbuild's, and says so by its name.
            "deps": base + [{"crate": index[b], "name": b} for b in map(os.path.basename, deps)],
            "cfg": like["cfg"] + ["MODULE"],
            "edition": "2021",
            "env": dict(like.get("env", {}), RUST_MODFILE="rust-analyzer", LIO_OUT=os.getcwd()),
        })
    lost = [c["root_module"] for c in crates if not os.path.exists(c["root_module"].removeprefix(root))]
    if lost:
        sys.exit(f"rust-project.json would name files that are not there: {lost}")
    json.dump(project, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
