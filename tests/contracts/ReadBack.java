import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Prints every record of topics as the Java client reads them: BOOTSTRAP TOPIC... */
public class ReadBack {
  static String text(byte[] data) {
    return data == null ? "-" : "." + Base64.getEncoder().encodeToString(data);
  }

  public static void main(String[] arguments) {
    Properties settings = new Properties();
    settings.put("bootstrap.servers", arguments[0]);
    settings.put("check.crcs", "true");
    settings.put("isolation.level", "read_committed");
    ByteArrayDeserializer raw = new ByteArrayDeserializer();
    try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings, raw, raw)) {
      List<TopicPartition> places = new ArrayList<>();
      for (int at = 1; at < arguments.length; at++) {
        for (PartitionInfo part : consumer.partitionsFor(arguments[at])) {
          places.add(new TopicPartition(part.topic(), part.partition()));
        }
      }
      consumer.assign(places);
      consumer.seekToBeginning(places);
      Map<TopicPartition, Long> ends = consumer.endOffsets(places);
      long deadline = System.nanoTime() + 60_000_000_000L;
      StringBuilder lines = new StringBuilder();
      while (places.stream().anyMatch(each -> consumer.position(each) < ends.get(each))) {
        if (System.nanoTime() > deadline) {
          throw new IllegalStateException("no end within a minute");
        }
        for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
          lines.append(record.topic()).append(' ').append(record.partition());
          lines.append(' ').append(record.offset()).append(' ').append(record.timestamp());
          lines.append(' ').append(text(record.key())).append(' ').append(text(record.value()));
          for (Header header : record.headers()) {
            lines.append(' ').append(text(header.key().getBytes(java.nio.charset.StandardCharsets.UTF_8)));
            lines.append('=').append(text(header.value()));
          }
          lines.append('\n');
        }
      }
      System.out.print(lines);
    }
  }
}
