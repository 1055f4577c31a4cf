// SPDX-License-Identifier: Apache-2.0
// QR codes out of pictures and the camera: by the browser where it can (BarcodeDetector), else by a library that
// is loaded only then.

const LARGEST = 1600;
const PAUSE_MS = 150;

let detector;

/** A function that brings the texts of the codes in a canvas. */
async function reader() {
  if (detector) return detector;
  const formats = (await globalThis.BarcodeDetector?.getSupportedFormats?.().catch(() => [])) ?? [];
  if (formats.includes("qr_code")) {
    const native = new BarcodeDetector({ formats: ["qr_code"] });
    detector = async (canvas) => (await native.detect(canvas)).map((each) => each.rawValue);
  } else {
    const { decodeQR } = await import("./vendor/qr.js");
    detector = async (canvas, effort) => {
      const image = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      try {
        return [decodeQR(image, effort)];
      } catch {
        return []; // there is none, or it cannot be read
      }
    };
  }
  return detector;
}

function drawn(source, width, height) {
  const scale = Math.min(1, LARGEST / Math.max(width, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  // What is transparent is white, as on paper.
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
  return canvas;
}

/** The texts of the codes in a picture, a Blob. Throws if it is no picture. */
export async function readPicture(blob) {
  const bitmap = await createImageBitmap(blob);
  try {
    return await (await reader())(drawn(bitmap, bitmap.width, bitmap.height), { timeLimit: 3000 });
  } finally {
    bitmap.close();
  }
}

/**
 * Show the camera in a video element and call found with each text that comes, until it returns true or the
 * signal aborts. Throws if there is no camera, or its use is refused.
 */
export async function readCamera(video, found, signal) {
  const stream = await navigator.mediaDevices.getUserMedia({
    video: { facingMode: "environment", width: { ideal: 1280 } },
  });
  try {
    video.srcObject = stream;
    await video.play();
    const read = await reader();
    while (!signal.aborted) {
      if (video.videoWidth) {
        for (const text of await read(drawn(video, video.videoWidth, video.videoHeight), {})) {
          if (found(text)) return;
        }
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  } finally {
    for (const track of stream.getTracks()) track.stop();
    video.srcObject = null;
  }
}
