import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import org.apache.kafka.connect.data.ConnectSchema;
import org.apache.kafka.connect.data.Field;
import org.apache.kafka.connect.data.SchemaAndValue;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.json.JsonConverter;

/** Reads base64 lines with Connect's JsonConverter and writes what it saw. */
public class ReadConnectJson {
  static String show(Object value) {
    if (value instanceof Struct struct) {
      StringBuilder text = new StringBuilder("{");
      for (Field field : struct.schema().fields()) {
        text.append(text.length() > 1 ? "," : "").append(field.name()).append(":");
        text.append(show(struct.get(field)));
      }
      return text.append("}").toString();
    }
    if (value instanceof List<?> list) {
      StringBuilder text = new StringBuilder("[");
      for (Object item : list) {
        text.append(text.length() > 1 ? "," : "").append(show(item));
      }
      return text.append("]").toString();
    }
    return value == null ? "null" : value.getClass().getSimpleName() + " " + value;
  }

  public static void main(String[] arguments) throws Exception {
    JsonConverter converter = new JsonConverter();
    converter.configure(Map.of("schemas.enable", "true"), false);
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      String answer;
      try {
        byte[] data = Base64.getDecoder().decode(line);
        SchemaAndValue found = converter.toConnectData("topic", data);
        ConnectSchema.validateValue(found.schema(), found.value());
        answer = "read " + show(found.value());
      } catch (Exception refused) {
        answer = "refused " + refused;
      }
      System.out.println(answer.replace("\n", " "));
    }
  }
}
