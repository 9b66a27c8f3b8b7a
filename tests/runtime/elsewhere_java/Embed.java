import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;

/** What docs/elsewhere.md shows, around token ids and vectors in files: {@code GRAPH KERNELS IDS VECTORS}, kernels "" or a library. */
final class Embed {
    // docs/elsewhere.md goes here

    public static void main(String[] words) throws IOException, OrtException {
        OrtEnvironment env = OrtEnvironment.getEnvironment();
        try (OrtSession.SessionOptions options = new OrtSession.SessionOptions();
                DataInputStream runs = new DataInputStream(Files.newInputStream(Path.of(words[2])));
                DataOutputStream found = new DataOutputStream(Files.newOutputStream(Path.of(words[3])))) {
            if (!words[1].isEmpty()) options.registerCustomOpLibrary(words[1]);
            try (OrtSession session = env.createSession(words[0], options)) {
                for (int left = runs.readInt(); left > 0; left--) {
                    int batch = runs.readInt();
                    int sequence = runs.readInt();
                    for (float[] vector : embed(env, session, read(runs, batch, sequence), read(runs, batch, sequence)))
                        for (float number : vector) found.writeFloat(number);
                }
            }
        }
    }

    private static long[][] read(DataInputStream runs, int batch, int sequence) throws IOException {
        long[][] rows = new long[batch][sequence];
        for (long[] row : rows) for (int place = 0; place < sequence; place++) row[place] = runs.readLong();
        return rows;
    }
}
