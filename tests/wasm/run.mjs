// SPDX-License-Identifier: Apache-2.0
// Run the tests of one module under MicroPython's WebAssembly build: node run.mjs PACKAGE MODULE FOLDER...
// PACKAGE: where npm put it; FOLDER: what is copied into the build's own file system: PLACE=FOLDER, and
// imported from if PLACE begins with /lib. The process ends with 1 at the first failure.

import { createCipheriv } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [place, module, ...folders] = process.argv.slice(2);
const { loadMicroPython } = await import(pathToFileURL(`${place}/micropython.mjs`));
const python = await loadMicroPython({ stdout: (line) => console.log(line) });

function copy(from, to) {
    python.FS.mkdirTree(to);
    for (const entry of readdirSync(from, { withFileTypes: true })) {
        if (entry.isDirectory()) copy(`${from}/${entry.name}`, `${to}/${entry.name}`);
        else python.FS.writeFile(`${to}/${entry.name}`, readFileSync(`${from}/${entry.name}`));
    }
}

let names = [];
python.registerJsModule("node", {
    found(text) {
        names = text.split(" ").filter((name) => name.startsWith("test_"));
    },
    aes_ecb(key, data) {
        const cipher = createCipheriv(`aes-${key.length * 4}-ecb`, Buffer.from(key, "hex"), null).setAutoPadding(false);
        return cipher.update(data, "hex", "hex") + cipher.final("hex");
    },
});
python.FS.mkdirTree("/scratch");
python.runPython("import sys\nsys.path.clear()");
for (const folder of folders) {
    const [to, from] = folder.split("=", 2);
    copy(from, to);
    if (to.startsWith("/lib")) python.runPython(`sys.path.append("${to}")`);
}
python.runPython("sys.path.append('.frozen')");
function attempt(code) {
    try {
        return python.runPython(code);
    } catch (error) {
        console.log(error.message);
        process.exit(1);
    }
}

// Each test in a call of its own: this build collects garbage between calls only.
attempt(`import node\nimport ${module} as tests\nnode.found(" ".join(sorted(dir(tests))))`);
for (const name of names) attempt(`print("${name}")\ntests.${name}()`);
console.log("passed:", names.length);
